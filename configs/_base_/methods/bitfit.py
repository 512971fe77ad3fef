"""BitFit: the biases are tuned."""

_base_ = './linear.py'

method = dict(tuning=dict(type='toast_mm.BitFit'))
