"""The schedule of 160k iterations for small backbones: 600 of 8 images, at a higher rate."""

_base_ = './segmentation_160k.py'

_max_iters = 600

optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=50, end=_max_iters),
]
train_cfg = dict(max_iters=_max_iters, val_interval=200)
default_hooks = dict(checkpoint=dict(interval=200))
auto_scale_lr = dict(base_batch_size=8)
