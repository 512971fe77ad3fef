"""A small base: ConvNeXt of 1.3M parameters, from scratch.

python tools/train.py configs/pretrain/convnext-1m_1xb128-60e_tinyin100-64x64.py
"""

_base_ = [
    '../_base_/backbones/convnext-1m_tinyin100.py',
    '../_base_/models/convnext_classifier.py',
    '../_base_/datasets/tinyin100_64x64.py',
    '../_base_/schedules/small_60e.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    data_preprocessor=dict(**_base_.preprocessing, num_classes=_base_.num_classes),
    backbone=dict(_base_.backbone, type='ConvNeXt', drop_path_rate=0.05, init_cfg=None),
    head=dict(in_channels=_base_.embed_dims, num_classes=_base_.num_classes),
)
