"""25 species of birds on EfficientNet-Lite0: TOAST from a pre-tuned module."""

_base_ = './toast-last_efficientnet-lite0_1xb32-4e_cub25-128x128.py'

_pretuned = 'toast_mm://efficientnet-lite0_tinyin100_toast-last.safetensors'
model = dict(backbone=dict(pretuned=_pretuned))
