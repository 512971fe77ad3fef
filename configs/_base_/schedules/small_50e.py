"""Small backbones from scratch, 50 epochs."""

_base_ = './small_75e.py'

_epochs, _warmup = 50, 2

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=_warmup, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        begin=_warmup,
        end=_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=_epochs)
