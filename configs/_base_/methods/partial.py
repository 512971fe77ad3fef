"""The last block (of a ConvNeXt: stage) is tuned."""

_base_ = './linear.py'

method = dict(tuning=dict(type='toast_mm.Partial', blocks=1))
