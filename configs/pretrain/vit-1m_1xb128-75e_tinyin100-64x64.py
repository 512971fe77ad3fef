"""A small base: ViT of 1.3M parameters with a convolutional stem, from scratch.

python tools/train.py configs/pretrain/vit-1m_1xb128-75e_tinyin100-64x64.py
"""

_base_ = [
    '../_base_/models/toast-vit-1m-tinyin100.py',
    '../_base_/datasets/tinyin100_64x64.py',
    '../_base_/schedules/small_75e.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='VisionTransformer',
        arch=_base_.model.backbone.arch,
        img_size=64,
        patch_size=8,
        patch_cfg=dict(conv_type='toast_mm.ConvStem'),
        drop_path_rate=0.1,
        init_cfg=None,
    ),
    # One batch in five is not mixed.
    train_cfg=dict(
        augments=[dict(type='Mixup', alpha=0.4), dict(type='CutMix', alpha=1.0)], probs=[0.3, 0.5]
    ),
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type='SwitchRecipeHook',
        schedule=[
            dict(action_epoch=1, train_pipeline=_base_.train_pipeline_48x48),
            dict(action_epoch=51, train_pipeline=_base_.train_pipeline),
        ],
    ),
    dict(type='EMAHook', momentum=1e-3),
]
