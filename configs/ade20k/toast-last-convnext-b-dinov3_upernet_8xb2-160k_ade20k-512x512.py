"""ADE20K: UPerNet on a frozen ConvNeXt-B of DINOv3 steered from its last stage.

bash tools/dist_train.sh \
    configs/ade20k/toast-last-convnext-b-dinov3_upernet_8xb2-160k_ade20k-512x512.py 8
"""

_base_ = [
    '../_base_/models/upernet_toast-convnext-b-dinov3.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/segmentation_160k.py',
    '../_base_/segmentation_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=_base_.num_classes),
    auxiliary_head=dict(num_classes=_base_.num_classes),
)
