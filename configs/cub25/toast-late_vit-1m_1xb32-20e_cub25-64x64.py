"""25 species of birds on the small ViT: feedback to the upper half, not pre-tuned."""

_base_ = './linear_vit-1m_1xb32-20e_cub25-64x64.py'

model = dict(backbone=dict(feedback_from='last', feedback_to='middle'))
custom_hooks = [*_base_.custom_hooks, dict(type='toast_mm.MeanTokenInitHook')]
