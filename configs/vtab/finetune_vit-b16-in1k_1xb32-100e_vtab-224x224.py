"""VTAB-1k on ViT-B/16 (ImageNet-1k): full fine-tuning."""

_base_ = [
    '../_base_/transfer/vit-b16-in1k.py',
    '../_base_/methods/finetune.py',
    '../_base_/datasets/vtab_224.py',
]

model = dict(
    data_preprocessor=dict(num_classes=_base_.num_classes),
    backbone=_base_.method,
    head=dict(num_classes=_base_.num_classes, **_base_.method_head),
)
optim_wrapper = dict(optimizer=_base_.recipe)
search = dict(lr=[1e-4, 5e-4, 1e-3, 5e-3])
