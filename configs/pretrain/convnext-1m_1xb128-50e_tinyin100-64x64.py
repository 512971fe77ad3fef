"""A small base: ConvNeXt of 1.5M parameters, from scratch.

python tools/train.py configs/pretrain/convnext-1m_1xb128-50e_tinyin100-64x64.py
"""

_base_ = [
    '../_base_/models/toast-convnext-1m-tinyin100.py',
    '../_base_/datasets/tinyin100_64x64.py',
    '../_base_/schedules/small_50e.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='ConvNeXt',
        arch=_base_.model.backbone.arch,
        stem_patch_size=2,
        layer_scale_init_value=1.0,
        drop_path_rate=0.05,
        init_cfg=None,
    ),
    # Three batches in five are not mixed.
    train_cfg=dict(
        augments=[dict(type='Mixup', alpha=0.4), dict(type='CutMix', alpha=1.0)], probs=[0.15, 0.25]
    ),
)
channels_last = True
custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type='SwitchRecipeHook',
        schedule=[
            dict(action_epoch=1, train_pipeline=_base_.train_pipeline_48x48),
            dict(action_epoch=34, train_pipeline=_base_.train_pipeline),
        ],
    ),
    dict(type='EMAHook', momentum=1e-3),
]
