"""Pre-tuning on strong weights: one epoch, warm-up and cosine by step, float32."""

_base_ = './pretune_30e.py'

_epochs, _warmup = 1, 0.1

optim_wrapper = dict(optimizer=dict(lr=1e-3))
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
auto_scale_lr = dict(base_batch_size=32)
