"""SSF: scale and shift behind every operation."""

_base_ = './linear.py'

method = dict(tuning=dict(type='toast_mm.SSF'))
