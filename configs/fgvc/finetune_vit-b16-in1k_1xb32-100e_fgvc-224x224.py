"""FGVC on ViT-B/16 (ImageNet-1k): full fine-tuning."""

_base_ = './linear_vit-b16-in1k_1xb32-100e_fgvc-224x224.py'

model = dict(backbone=dict(frozen=False))
optim_wrapper = dict(optimizer=dict(lr=0.003))
