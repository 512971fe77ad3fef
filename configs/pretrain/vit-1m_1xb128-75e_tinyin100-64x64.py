"""A small base: ViT of 1.3M parameters with a convolutional stem, from scratch.

python tools/train.py configs/pretrain/vit-1m_1xb128-75e_tinyin100-64x64.py
"""

_base_ = [
    '../_base_/backbones/vit-1m_tinyin100.py',
    '../_base_/models/vit_classifier.py',
    '../_base_/datasets/tinyin100_64x64.py',
    '../_base_/schedules/small_75e.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    data_preprocessor=dict(**_base_.preprocessing, num_classes=_base_.num_classes),
    backbone=dict(_base_.backbone, type='VisionTransformer', drop_path_rate=0.1, init_cfg=None),
    head=dict(in_channels=_base_.embed_dims, num_classes=_base_.num_classes),
    train_cfg=_base_.batch_augments,
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
