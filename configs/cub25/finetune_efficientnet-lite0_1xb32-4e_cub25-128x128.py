"""25 species of birds on EfficientNet-Lite0: full fine-tuning."""

_base_ = './linear_efficientnet-lite0_1xb32-4e_cub25-128x128.py'

model = dict(backbone=dict(frozen=False))
search = dict(lr=[1e-4, 3e-4, 1e-3])
first_pass_cache = False
optim_wrapper = dict(optimizer=dict(lr=1e-3))
