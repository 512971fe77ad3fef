"""TOAST segmentor of the quickstart: digits on textured ground, on a CPU."""

_base_ = [
    '../_base_/backbones/vit-1m_tinyin100.py',
    '../_base_/methods/toast_early.py',
    '../_base_/models/upernet.py',
    '../_base_/datasets/digits_scenes.py',
    '../_base_/schedules/segmentation_20k.py',
    '../_base_/segmentation_runtime.py',
]

model = dict(
    data_preprocessor=dict(**_base_.preprocessing, size=_base_.crop_size),
    backbone=dict(**_base_.backbone, **_base_.method, out_indices=_base_.stages),
    # Strokes are no wider than a patch: the head gets finer maps than the backbone's.
    neck=dict(type='Feature2Pyramid', embed_dim=_base_.embed_dims, norm_cfg=_base_.norm_cfg),
    decode_head=dict(
        in_channels=[_base_.embed_dims] * 4, channels=32, num_classes=_base_.num_classes
    ),
    auxiliary_head=dict(in_channels=_base_.embed_dims, channels=32, num_classes=_base_.num_classes),
)

_max_iters = 400
optim_wrapper = dict(type='toast_mm.BFloat16OptimWrapper', optimizer=dict(lr=3e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=20),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=20, end=_max_iters),
]
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters)
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(interval=100, max_keep_ckpts=1, save_best=None)
)
custom_hooks = [*_base_.custom_hooks, dict(type='toast_mm.MeanTokenInitHook')]
auto_scale_lr = dict(base_batch_size=16)
