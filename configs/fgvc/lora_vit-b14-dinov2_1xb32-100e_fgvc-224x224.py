"""FGVC on ViT-B/14 (DINOv2): LoRA, low-rank updates of queries, keys and values."""

_base_ = './linear_vit-b14-dinov2_1xb32-100e_fgvc-224x224.py'

model = dict(backbone=dict(tuning=dict(type='toast_mm.LoRA', rank=4, alpha=1.0)))
