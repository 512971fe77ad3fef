"""CUB-200-2011 on ConvNeXt-B (ImageNet-1k): InCA."""

_base_ = [
    '../_base_/transfer/convnext-b-in1k.py',
    '../_base_/methods/inca_convnext-b.py',
    '../_base_/datasets/fgvc_cub_224.py',
]

model = dict(
    data_preprocessor=dict(num_classes=_base_.num_classes),
    backbone=_base_.method,
    head=dict(num_classes=_base_.num_classes, **_base_.method_head),
)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=1e-4))
