"""ADE20K: UPerNet on a ViT-L/14 of DINOv2 tuned by LoRA."""

_base_ = './toast-vit-l14-dinov2_upernet_8xb2-160k_ade20k-518x518.py'

model = dict(
    backbone=dict(feedback_from=None, tuning=dict(type='toast_mm.LoRA', rank=4, alpha=1.0))
)
