"""VPT-deep: prompts of their own in every block."""

_base_ = './linear.py'

method = dict(tuning=dict(type='toast_mm.VPT', num_prompts=100))
