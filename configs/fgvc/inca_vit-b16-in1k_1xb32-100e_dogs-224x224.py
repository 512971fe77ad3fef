"""Stanford Dogs on ViT-B/16 (ImageNet-1k): InCA."""

_base_ = [
    '../_base_/transfer/vit-b16-in1k.py',
    '../_base_/methods/inca.py',
    '../_base_/datasets/fgvc_dogs_224.py',
]

model = dict(
    data_preprocessor=dict(num_classes=_base_.num_classes),
    backbone=_base_.method,
    head=dict(num_classes=_base_.num_classes, **_base_.method_head),
)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=1e-4))
