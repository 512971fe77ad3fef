"""ADE20K: UPerNet on a frozen ViT-B/14 of DINOv2 steered from its middle layer.

bash tools/dist_train.sh \
    configs/ade20k/toast-vit-b14-dinov2_upernet_8xb2-160k_ade20k-518x518.py 8
"""

_base_ = [
    '../_base_/models/upernet_toast-vit-b14-dinov2.py',
    '../_base_/datasets/ade20k_518x518.py',
    '../_base_/schedules/segmentation_160k.py',
    '../_base_/segmentation_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=_base_.num_classes),
    auxiliary_head=dict(num_classes=_base_.num_classes),
)
