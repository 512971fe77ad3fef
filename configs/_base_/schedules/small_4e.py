"""AdamW for small tasks: 4 epochs, warm-up and cosine by step, float32."""

_base_ = './small_20e.py'

_epochs, _warmup = 4, 1

optim_wrapper = dict(type='OptimWrapper')
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, end=_warmup, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=_warmup, end=_epochs, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=_epochs, val_interval=_epochs)
