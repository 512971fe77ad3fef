"""Small backbones from scratch: AdamW, cosine by step, bfloat16 where possible."""

_epochs, _warmup = 75, 2

optim_wrapper = dict(
    type='toast_mm.BFloat16OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
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
train_cfg = dict(by_epoch=True, max_epochs=_epochs, val_interval=5)
val_cfg = dict()
test_cfg = dict()
