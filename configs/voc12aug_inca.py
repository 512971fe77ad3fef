"""PASCAL VOC: InCA's dense form on four maps of a frozen ViT-B/16, in place of UPerNet.

bash tools/dist_train.sh configs/voc12aug_inca.py 8
"""

_base_ = [
    './_base_/backbones/vit-b16_in21k.py',
    './_base_/methods/linear.py',
    './_base_/models/upernet.py',
    './_base_/datasets/voc12aug.py',
    './_base_/schedules/segmentation_20k.py',
    './_base_/segmentation_runtime.py',
]

model = dict(
    data_preprocessor=dict(**_base_.preprocessing, size=_base_.crop_size),
    backbone=dict(_base_.backbone, **_base_.method, **_base_.dense),
    decode_head=dict(
        _delete_=True,
        type='toast_mm.InCADecodeHead',
        in_channels=_base_.dense_channels,
        in_index=[0, 1, 2, 3],
        channels=256,
        num_classes=_base_.num_classes,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
    auxiliary_head=None,
)
