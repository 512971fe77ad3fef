"""FGVC on ViT-B/16 (ImageNet-1k): VPT-shallow, prompts before the first block."""

_base_ = './vpt_vit-b16-in1k_1xb32-100e_fgvc-224x224.py'

model = dict(backbone=dict(tuning=dict(deep=False)))
