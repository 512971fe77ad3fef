"""VTAB-1k on ViT-B/16 (ImageNet-21k): VPT-deep."""

_base_ = './linear_vit-b16-in21k_1xb32-100e_vtab-224x224.py'

model = dict(backbone=dict(tuning=dict(type='toast_mm.VPT', num_prompts=100)))
