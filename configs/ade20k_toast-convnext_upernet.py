"""ADE20K: UPerNet on a frozen ConvNeXt-B steered from its last stage.

The paper has no segmentation with ConvNeXt: the schedule is that of the ViT, the auxiliary head
sits on the third stage as in mmsegmentation.

bash tools/dist_train.sh configs/ade20k_toast-convnext_upernet.py 8
"""

_base_ = [
    './_base_/backbones/convnext-b_in1k.py',
    './_base_/methods/toast.py',
    './_base_/models/upernet.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/segmentation_160k.py',
    './_base_/segmentation_runtime.py',
]

model = dict(
    data_preprocessor=dict(**_base_.preprocessing, size=_base_.crop_size),
    backbone=dict(_base_.backbone, **_base_.method, **_base_.dense),
    decode_head=dict(in_channels=_base_.dense_channels, num_classes=_base_.num_classes),
    auxiliary_head=dict(
        in_index=2, in_channels=_base_.dense_channels[2], num_classes=_base_.num_classes
    ),
)
