"""ade20k_toast_upernet.py with feedback from the last layer."""

_base_ = './ade20k_toast_upernet.py'

model = dict(backbone=dict(feedback_from='last'))
