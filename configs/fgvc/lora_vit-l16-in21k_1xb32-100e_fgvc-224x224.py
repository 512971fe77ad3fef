"""FGVC on ViT-L/16 (ImageNet-21k): LoRA."""

_base_ = './toast-last_vit-l16-in21k_1xb32-100e_fgvc-224x224.py'

model = dict(
    backbone=dict(feedback_from=None, tuning=dict(type='toast_mm.LoRA', rank=4, alpha=1.0))
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
