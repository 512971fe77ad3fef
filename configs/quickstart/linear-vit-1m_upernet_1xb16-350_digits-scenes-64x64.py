"""The heads alone, for as long as the TOAST job beside it."""

_base_ = './toast-vit-1m_upernet_1xb16-350_digits-scenes-64x64.py'

model = dict(backbone=dict(feedback_from=None, pretuned=None))
custom_hooks = _base_.custom_hooks[:-1]
