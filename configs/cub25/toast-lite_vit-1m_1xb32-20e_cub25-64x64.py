"""25 species of birds on the small ViT: TOAST-Lite of rank 4."""

_base_ = './toast-last_vit-1m_1xb32-20e_cub25-64x64.py'

model = dict(backbone=dict(lite=dict(rank=4, alpha=1.0)))
