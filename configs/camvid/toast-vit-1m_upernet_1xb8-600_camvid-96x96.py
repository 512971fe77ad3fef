"""CamVid on a CPU: UPerNet of 64 channels on the small ViT, steered from its middle layer."""

_base_ = [
    '../_base_/models/upernet_toast-vit-1m-tinyin100.py',
    '../_base_/datasets/camvid_96x96.py',
    '../_base_/schedules/segmentation_20k.py',
    '../_base_/segmentation_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(pretuned='toast_mm://vit-1m_tinyin100_toast-early.safetensors'),
    decode_head=dict(channels=64, num_classes=_base_.num_classes),
    auxiliary_head=dict(channels=64, num_classes=_base_.num_classes),
)

_max_iters = 600
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=50, end=_max_iters),
]
train_cfg = dict(max_iters=_max_iters, val_interval=200)
default_hooks = dict(checkpoint=dict(interval=200))
custom_hooks = [*_base_.custom_hooks, dict(type='toast_mm.MeanTokenInitHook')]
auto_scale_lr = dict(base_batch_size=8)
