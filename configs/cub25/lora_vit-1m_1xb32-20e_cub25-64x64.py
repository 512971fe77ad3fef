"""25 species of birds on the small ViT: LoRA."""

_base_ = './linear_vit-1m_1xb32-20e_cub25-64x64.py'

model = dict(backbone=dict(tuning=dict(type='toast_mm.LoRA', rank=4, alpha=1.0)))
