"""A small base: ViT of 1.3M parameters with a convolutional stem, from scratch.

python tools/train.py configs/pretrain/vit-1m_1xb128-60e_tinyin100-64x64.py
"""

_base_ = [
    '../_base_/backbones/vit-1m_tinyin100.py',
    '../_base_/models/vit_classifier.py',
    '../_base_/datasets/tinyin100_64x64.py',
    '../_base_/schedules/small_60e.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    data_preprocessor=dict(**_base_.preprocessing, num_classes=_base_.num_classes),
    backbone=dict(_base_.backbone, type='VisionTransformer', drop_path_rate=0.05, init_cfg=None),
    head=dict(in_channels=_base_.embed_dims, num_classes=_base_.num_classes),
)
