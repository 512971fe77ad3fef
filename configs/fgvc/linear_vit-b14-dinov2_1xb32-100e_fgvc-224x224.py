"""FGVC on ViT-B/14 (DINOv2): linear probe."""

_base_ = './toast-last_vit-b14-dinov2_1xb32-100e_fgvc-224x224.py'

model = dict(backbone=dict(feedback_from=None))
optim_wrapper = dict(optimizer=dict(lr=0.01))
