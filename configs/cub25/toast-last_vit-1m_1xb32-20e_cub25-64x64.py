"""25 species of birds on the small ViT: TOAST, feedback from the last layer."""

_base_ = './linear_vit-1m_1xb32-20e_cub25-64x64.py'

_pretuned = 'toast_mm://vit-1m_tinyin100_toast-last.safetensors'
model = dict(backbone=dict(feedback_from='last', pretuned=_pretuned))
custom_hooks = [*_base_.custom_hooks, dict(type='toast_mm.MeanTokenInitHook')]
