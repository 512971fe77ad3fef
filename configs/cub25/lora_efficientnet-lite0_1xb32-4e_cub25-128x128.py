"""25 species of birds on EfficientNet-Lite0: LoRA."""

_base_ = './linear_efficientnet-lite0_1xb32-4e_cub25-128x128.py'

model = dict(backbone=dict(tuning=dict(type='toast_mm.LoRA', rank=4, alpha=1.0)))
first_pass_cache = False
