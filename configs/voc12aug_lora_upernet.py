"""PASCAL VOC: UPerNet on ViT-B/16 tuned by LoRA (paper table 6).

bash tools/dist_train.sh configs/voc12aug_lora_upernet.py 8
"""

_base_ = [
    './_base_/backbones/vit-b16_in21k.py',
    './_base_/methods/lora.py',
    './_base_/models/upernet.py',
    './_base_/datasets/voc12aug.py',
    './_base_/schedules/segmentation_20k.py',
    './_base_/segmentation_runtime.py',
]

model = dict(
    data_preprocessor=dict(**_base_.preprocessing, size=_base_.crop_size),
    backbone=dict(_base_.backbone, **_base_.method, **_base_.dense),
    decode_head=dict(in_channels=_base_.dense_channels, num_classes=_base_.num_classes),
    auxiliary_head=dict(in_channels=_base_.dense_channels[-1], num_classes=_base_.num_classes),
)
