"""FGVC on ViT-L/16 (ImageNet-21k): full fine-tuning."""

_base_ = './toast-last_vit-l16-in21k_1xb32-100e_fgvc-224x224.py'

model = dict(backbone=dict(feedback_from=None, frozen=False))
optim_wrapper = dict(optimizer=dict(lr=0.003))
