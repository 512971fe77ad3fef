"""Pre-tuning the small ConvNeXt on its own training data, feedback from the last layer.

python tools/train.py configs/pretune/toast-last_convnext-1m_1xb128-10e_tinyin100-64x64.py
"""

_base_ = [
    '../_base_/backbones/convnext-1m_tinyin100.py',
    '../_base_/methods/toast.py',
    '../_base_/models/convnext_pretune_classifier.py',
    '../_base_/datasets/tinyin100_64x64.py',
    '../_base_/schedules/pretune_10e.py',
    '../_base_/pretune_runtime.py',
]

model = dict(
    data_preprocessor=dict(**_base_.preprocessing, num_classes=_base_.num_classes),
    backbone=dict(_base_.backbone, **_base_.method),
    head=dict(
        in_channels=_base_.embed_dims,
        num_classes=_base_.num_classes,
        init_cfg=dict(_base_.backbone.init_cfg, prefix='head.'),  # as the base's training left it
    ),
)
channels_last = True
custom_hooks = [*_base_.custom_hooks, dict(type='toast_mm.MeanTokenInitHook')]
