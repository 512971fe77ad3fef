"""FGVC on ViT-B/16 (ImageNet-1k): TOAST-Lite of the pre-tuned module that `pretuned` names."""

_base_ = './toast-last_vit-b16-in1k_1xb32-100e_fgvc-224x224.py'

model = dict(backbone=dict(lite=dict(rank=4, alpha=1.0)))
