"""25 species of birds on the small ViT: TOAST-Lite of rank 16."""

_base_ = './toast-lite_vit-1m_1xb32-20e_cub25-64x64.py'

model = dict(backbone=dict(lite=dict(rank=16)))
