"""Published recipe of FGVC and VTAB-1k: SGD, 100 epochs, warm-up and cosine by epoch.

Configs add the learning rate and weight decay of their data.
"""

_epochs, _warmup = 100, 10

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='toast_mm.TunedOptimWrapperConstructor',
    optimizer=dict(type='SGD', momentum=0.9),
    # Everything that is tuned decays, except the bias of the head of a ViT or a ConvNeXt.
    paramwise_cfg=dict(
        custom_keys={
            'head.layers.head.bias': dict(decay_mult=0.0),
            'head.fc.bias': dict(decay_mult=0.0),
        }
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=_warmup),
    dict(type='CosineAnnealingLR', begin=_warmup, end=_epochs),
]
train_cfg = dict(by_epoch=True, max_epochs=_epochs, val_interval=_epochs)
val_cfg = dict()
test_cfg = dict()
