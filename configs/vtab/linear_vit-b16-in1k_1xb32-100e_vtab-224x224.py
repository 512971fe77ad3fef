"""VTAB-1k on ViT-B/16 (ImageNet-1k): the head alone."""

_base_ = [
    '../_base_/transfer/vit-b16-in1k.py',
    '../_base_/methods/linear.py',
    '../_base_/datasets/vtab_224.py',
]

model = dict(
    data_preprocessor=dict(num_classes=_base_.num_classes),
    backbone=_base_.method,
    head=dict(num_classes=_base_.num_classes, **_base_.method_head),
)
optim_wrapper = dict(optimizer=_base_.recipe)
search = dict(lr=[50.0, 25.0, 10.0, 5.0, 2.5, 1.0, 0.5, 0.25, 0.1, 0.05])
