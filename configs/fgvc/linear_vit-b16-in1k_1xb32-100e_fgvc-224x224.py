"""FGVC on ViT-B/16 (ImageNet-1k): linear probe."""

_base_ = './toast-last_vit-b16-in1k_1xb32-100e_fgvc-224x224.py'

model = dict(backbone=dict(feedback_from=None))
optim_wrapper = dict(optimizer=dict(lr=0.01))
