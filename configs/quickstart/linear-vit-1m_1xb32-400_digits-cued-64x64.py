"""Linear probe, trained for as long as the TOAST config of the quickstart."""

_base_ = './toast-vit-1m_1xb32-400_digits-cued-64x64.py'

model = dict(backbone=dict(feedback_from=None, pretuned=None))
custom_hooks = _base_.custom_hooks[:-1]
