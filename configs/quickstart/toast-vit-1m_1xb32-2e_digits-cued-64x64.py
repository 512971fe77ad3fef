"""TOAST classifier of the quickstart: of four digits, the one on the red card, on a CPU."""

_base_ = [
    '../_base_/backbones/vit-1m_tinyin100.py',
    '../_base_/methods/toast.py',
    '../_base_/models/vit_classifier.py',
    '../_base_/datasets/digits_cued.py',
    '../_base_/schedules/small_20e.py',
    '../_base_/classification_runtime.py',
]

_pretuned = 'toast_mm://vit-1m_tinyin100_toast-last.safetensors'
model = dict(
    data_preprocessor=dict(**_base_.preprocessing, num_classes=_base_.num_classes),
    backbone=dict(_base_.backbone, **_base_.method, pretuned=_pretuned),
    head=dict(
        in_channels=_base_.embed_dims,
        num_classes=_base_.num_classes,
        loss=dict(_delete_=True, type='CrossEntropyLoss'),
    ),
)

_epochs = 2
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0))))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, end=0.1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', end=_epochs, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=_epochs, val_interval=_epochs)
custom_hooks = [*_base_.custom_hooks, dict(type='toast_mm.MeanTokenInitHook')]
