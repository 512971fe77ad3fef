"""DINOv2's released schedule of its linear head: AdamW, 40k iterations of 16 images."""

_base_ = './segmentation_160k.py'

_max_iters = 40000

optim_wrapper = dict(
    optimizer=dict(lr=1e-3, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=1.0),  # the batch norm decays, too
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=_max_iters),
]
train_cfg = dict(max_iters=_max_iters, val_interval=5000)
default_hooks = dict(checkpoint=dict(interval=5000))
