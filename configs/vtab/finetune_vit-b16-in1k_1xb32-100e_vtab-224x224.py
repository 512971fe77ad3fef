"""VTAB-1k on ViT-B/16 (ImageNet-1k): full fine-tuning."""

_base_ = './linear_vit-b16-in1k_1xb32-100e_vtab-224x224.py'

model = dict(backbone=dict(frozen=False))
search = dict(lr=[1e-4, 5e-4, 1e-3, 5e-3])
