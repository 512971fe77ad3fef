"""FGVC on ViT-B/16 (ImageNet-1k): VPT-deep, separate prompts in every block."""

_base_ = './linear_vit-b16-in1k_1xb32-100e_fgvc-224x224.py'

model = dict(backbone=dict(tuning=dict(type='toast_mm.VPT', num_prompts=100)))
