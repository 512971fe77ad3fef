"""ADE20K: UPerNet on a frozen ViT-B/16: the heads alone are tuned.

bash tools/dist_train.sh configs/ade20k_linear_upernet.py 8
"""

_base_ = [
    './_base_/backbones/vit-b16_in21k.py',
    './_base_/methods/linear.py',
    './_base_/models/upernet.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/segmentation_160k.py',
    './_base_/segmentation_runtime.py',
]

model = dict(
    data_preprocessor=dict(**_base_.preprocessing, size=_base_.crop_size),
    backbone=dict(_base_.backbone, **_base_.method, **_base_.dense),
    decode_head=dict(in_channels=_base_.dense_channels, num_classes=_base_.num_classes),
    auxiliary_head=dict(in_channels=_base_.dense_channels[-1], num_classes=_base_.num_classes),
)
