"""VTAB-1k on ViT-B/14 (DINOv2): LoRA."""

_base_ = './toast-last_vit-b14-dinov2_1xb32-100e_vtab-224x224.py'

model = dict(
    backbone=dict(feedback_from=None, tuning=dict(type='toast_mm.LoRA', rank=4, alpha=1.0))
)
