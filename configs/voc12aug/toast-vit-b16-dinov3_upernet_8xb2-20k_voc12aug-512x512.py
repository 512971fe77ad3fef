"""PASCAL VOC: UPerNet on a frozen ViT-B/16 of DINOv3 steered from its middle layer.

bash tools/dist_train.sh \
    configs/voc12aug/toast-vit-b16-dinov3_upernet_8xb2-20k_voc12aug-512x512.py 8
"""

_base_ = [
    '../_base_/models/upernet_toast-vit-b14-dinov2.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/schedules/segmentation_20k.py',
    '../_base_/segmentation_runtime.py',
]

_name = 'vit_base_patch16_dinov3.lvd1689m'
model = dict(
    data_preprocessor=dict(model_name=_name, size=_base_.crop_size, test_cfg=dict(size_divisor=16)),
    backbone=dict(model_name=_name),
    decode_head=dict(num_classes=_base_.num_classes),
    auxiliary_head=dict(num_classes=_base_.num_classes),
)
