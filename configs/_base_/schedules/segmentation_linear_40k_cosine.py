"""DINOv3's released schedule of its linear head: as DINOv2's, but cosine, and more decay."""

_base_ = './segmentation_linear_40k.py'

optim_wrapper = dict(optimizer=dict(weight_decay=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=1500, end=40000),
]
