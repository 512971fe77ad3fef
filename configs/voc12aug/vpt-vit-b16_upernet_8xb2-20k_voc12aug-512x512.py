"""PASCAL VOC: UPerNet on ViT-B/16 tuned by VPT-deep (paper table 6)."""

_base_ = './toast-vit-b16_upernet_8xb2-20k_voc12aug-512x512.py'

model = dict(backbone=dict(feedback_from=None, tuning=dict(type='toast_mm.VPT', num_prompts=100)))
