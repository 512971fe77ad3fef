"""FGVC on ViT-B/16 (ImageNet-1k): TOAST-Early, feedback from the middle to lower layers."""

_base_ = './toast-last_vit-b16-in1k_1xb32-100e_fgvc-224x224.py'

model = dict(backbone=dict(feedback_from='middle'))
