"""25 species of birds on EfficientNet-Lite0: TOAST, feedback from the last block."""

_base_ = './linear_efficientnet-lite0_1xb32-4e_cub25-128x128.py'

model = dict(backbone=dict(feedback_from='last'))
custom_hooks = [*_base_.custom_hooks, dict(type='toast_mm.MeanTokenInitHook')]
optim_wrapper = dict(optimizer=dict(lr=1e-3))
