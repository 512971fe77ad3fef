"""AdamW for 30 epochs: 3 of warm-up, cosine, 3 of cool-down (paper sec. A.2).

The paper gives no batch size; 512 is the batch size of its base training at the same rate.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='toast_mm.TunedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(flat_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=3, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=3, end=27, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=30, val_interval=1)
val_cfg = dict()
test_cfg = dict()

auto_scale_lr = dict(base_batch_size=512)
