"""FGVC on ConvNeXt-B (ImageNet-1k): TOAST, feedback from the last layer.

DATASET=cars python tools/train.py \
    configs/fgvc/toast-last_convnext-b-in1k_1xb32-100e_fgvc-224x224.py
"""

_base_ = [
    '../_base_/models/toast-convnext-b-in1k.py',
    '../_base_/datasets/fgvc_{{$DATASET:cub}}_224.py',
    '../_base_/schedules/transfer_100e.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    data_preprocessor=dict(num_classes=_base_.num_classes),
    head=dict(num_classes=_base_.num_classes),
)
optim_wrapper = dict(optimizer=dict(lr=_base_.lr, weight_decay=_base_.weight_decay))
