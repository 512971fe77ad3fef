"""PASCAL VOC: UPerNet on ConvNeXt-B of DINOv3 tuned by LoRA."""

_base_ = './toast-last-convnext-b-dinov3_upernet_8xb2-20k_voc12aug-512x512.py'

model = dict(
    backbone=dict(feedback_from=None, tuning=dict(type='toast_mm.LoRA', rank=4, alpha=1.0))
)
