"""PASCAL VOC: UPerNet on a frozen ViT-B/16, only the heads are tuned."""

_base_ = './toast-vit-b16_upernet_8xb2-20k_voc12aug-512x512.py'

model = dict(backbone=dict(feedback_from=None))
