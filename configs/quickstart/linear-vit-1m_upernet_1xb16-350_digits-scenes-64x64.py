"""Only the heads are tuned, for as long as in the TOAST config of the quickstart."""

_base_ = './toast-vit-1m_upernet_1xb16-350_digits-scenes-64x64.py'

model = dict(backbone=dict(feedback_from=None, pretuned=None))
custom_hooks = _base_.custom_hooks[:-1]
