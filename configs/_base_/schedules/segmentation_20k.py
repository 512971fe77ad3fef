"""The schedule of 160k iterations, over 20k."""

_base_ = './segmentation_160k.py'

_max_iters = 20000

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=_max_iters),
]
train_cfg = dict(max_iters=_max_iters, val_interval=2000)
default_hooks = dict(checkpoint=dict(interval=2000))
