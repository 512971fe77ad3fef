"""PASCAL VOC: UPerNet on a frozen ConvNeXt-B of DINOv3 steered from its last stage.

bash tools/dist_train.sh \
    configs/voc12aug/toast-last-convnext-b-dinov3_upernet_8xb2-20k_voc12aug-512x512.py 8
"""

_base_ = [
    '../_base_/models/upernet_toast-convnext-b-dinov3.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/schedules/segmentation_20k.py',
    '../_base_/segmentation_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=_base_.num_classes),
    auxiliary_head=dict(num_classes=_base_.num_classes),
)
