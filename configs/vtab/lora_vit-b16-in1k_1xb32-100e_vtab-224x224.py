"""VTAB-1k on ViT-B/16 (ImageNet-1k): LoRA."""

_base_ = './toast-last_vit-b16-in1k_1xb32-100e_vtab-224x224.py'

model = dict(
    backbone=dict(feedback_from=None, tuning=dict(type='toast_mm.LoRA', rank=4, alpha=1.0))
)
