"""25 species of birds on EfficientNet-Lite0: BitFit."""

_base_ = './linear_efficientnet-lite0_1xb32-4e_cub25-128x128.py'

model = dict(backbone=dict(tuning=dict(type='toast_mm.BitFit')))
first_pass_cache = False
