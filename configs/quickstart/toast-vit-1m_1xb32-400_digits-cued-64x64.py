"""TOAST classifier of the quickstart: of four digits, the one on the red card, on a CPU."""

_base_ = [
    '../_base_/models/toast-vit-1m-tinyin100.py',
    '../_base_/datasets/digits_cued.py',
    '../_base_/schedules/small_20e.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    data_preprocessor=dict(num_classes=_base_.num_classes),
    backbone=dict(pretuned='toast_mm://vit-1m_tinyin100_toast-last.safetensors'),
    head=dict(num_classes=_base_.num_classes, loss=dict(_delete_=True, type='CrossEntropyLoss')),
)

_max_iters = 400
# The quickstart gives every training one core, so no other process loads the data.
_here = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(**_here, sampler=dict(type='toast_mm.InfiniteSampler', shuffle=True))
val_dataloader = test_dataloader = _here
optim_wrapper = dict(
    # Gradients become large when the module has found the card. Clipping them allows a higher
    # rate, with which this happens early.
    optimizer=dict(lr=1.5e-3, betas=(0.9, 0.98), fused=True),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0))),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, end=25),
    dict(type='CosineAnnealingLR', by_epoch=False, end=_max_iters),
]
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=_max_iters, val_interval=_max_iters)
log_processor = dict(by_epoch=False)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(by_epoch=False, interval=50))
custom_hooks = [*_base_.custom_hooks, dict(type='toast_mm.MeanTokenInitHook')]
