"""FGVC on ConvNeXt-B (ImageNet-1k): LoRA."""

_base_ = './toast-last_convnext-b-in1k_1xb32-100e_fgvc-224x224.py'

model = dict(
    backbone=dict(feedback_from=None, tuning=dict(type='toast_mm.LoRA', rank=4, alpha=1.0))
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
