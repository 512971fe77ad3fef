"""AdamW for small tasks: 20 epochs, warm-up and cosine by step, bfloat16 where possible."""

_epochs, _warmup = 20, 2

optim_wrapper = dict(
    type='toast_mm.BFloat16OptimWrapper',
    constructor='toast_mm.TunedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01),
    paramwise_cfg=dict(flat_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, end=_warmup, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=_warmup, end=_epochs, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=_epochs, val_interval=_epochs)
val_cfg = dict()
test_cfg = dict()
