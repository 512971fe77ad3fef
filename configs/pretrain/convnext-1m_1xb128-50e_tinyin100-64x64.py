"""A small base: ConvNeXt of 1.5M parameters, from scratch.

python tools/train.py configs/pretrain/convnext-1m_1xb128-50e_tinyin100-64x64.py
"""

_base_ = [
    '../_base_/backbones/convnext-1m_tinyin100.py',
    '../_base_/models/convnext_classifier.py',
    '../_base_/datasets/tinyin100_64x64.py',
    '../_base_/schedules/small_50e.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    data_preprocessor=dict(**_base_.preprocessing, num_classes=_base_.num_classes),
    backbone=dict(_base_.backbone, type='ConvNeXt', drop_path_rate=0.05, init_cfg=None),
    head=dict(in_channels=_base_.embed_dims, num_classes=_base_.num_classes),
    train_cfg=_base_.batch_augments,
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
