"""FGVC on ViT-B/14 (DINOv2): TOAST, feedback from the last layer.

DATASET=cars python tools/train.py \
    configs/fgvc/toast-last_vit-b14-dinov2_1xb32-100e_fgvc-224x224.py
"""

_base_ = [
    '../_base_/models/toast-vit-b14-dinov2.py',
    '../_base_/datasets/fgvc_{{$DATASET:cub}}_224.py',
    '../_base_/schedules/transfer_100e.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    data_preprocessor=dict(num_classes=_base_.num_classes),
    head=dict(num_classes=_base_.num_classes),
)
optim_wrapper = dict(optimizer=dict(lr=_base_.lr, weight_decay=_base_.weight_decay))
