"""PASCAL VOC: UPerNet on a ViT-B/16 of SigLIP 2 tuned by LoRA."""

_base_ = './toast-vit-b16-siglip2_upernet_8xb2-20k_voc12aug-512x512.py'

model = dict(
    backbone=dict(feedback_from=None, tuning=dict(type='toast_mm.LoRA', rank=4, alpha=1.0))
)
