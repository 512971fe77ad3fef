"""TOAST segmentor of the quickstart: digits on a textured background, on a CPU."""

_base_ = [
    '../_base_/models/upernet_toast-vit-1m-tinyin100.py',
    '../_base_/datasets/digits_scenes.py',
    '../_base_/schedules/segmentation_20k.py',
    '../_base_/segmentation_runtime.py',
]

_channels = 32
_pretuned = 'toast_mm://vit-1m_tinyin100_toast-last.safetensors'
# Three pixels in four are background, and digits are recognised late: with equal weights the model
# would predict background everywhere.
_loss = dict(class_weight=[0.1] + [1.0] * (_base_.num_classes - 1))
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(feedback_from='last', pretuned=_pretuned),
    # Strokes are narrower than a patch, so the head needs a finer map than the backbone gives.
    neck=dict(
        type='Feature2Pyramid',
        embed_dim=128,
        rescales=[2, 1, 0.5, 0.25],
        norm_cfg=_base_.norm_cfg,
    ),
    decode_head=dict(channels=_channels, num_classes=_base_.num_classes, loss_decode=_loss),
    auxiliary_head=dict(channels=_channels, num_classes=_base_.num_classes, loss_decode=_loss),
)

_max_iters = 350
# The quickstart gives every training one core, so no other process loads the data.
_here = dict(num_workers=0, persistent_workers=False)
train_dataloader = val_dataloader = test_dataloader = _here
optim_wrapper = dict(
    type='toast_mm.BFloat16OptimWrapper',
    optimizer=dict(lr=1e-2, fused=True),
    paramwise_cfg=dict(custom_keys=dict(topdown=dict(lr_mult=0.2))),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=20),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=20, end=_max_iters),
]
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters)
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(interval=50, max_keep_ckpts=1, save_best=None)
)
custom_hooks = [*_base_.custom_hooks, dict(type='toast_mm.MeanTokenInitHook')]
auto_scale_lr = dict(base_batch_size=16)
