"""VPT-shallow: prompts in front of the first block."""

_base_ = './linear.py'

method = dict(tuning=dict(type='toast_mm.VPT', num_prompts=100, deep=False))
