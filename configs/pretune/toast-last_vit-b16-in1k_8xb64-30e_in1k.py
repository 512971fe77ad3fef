"""Pre-tuning on ImageNet-1k: ViT-B/16 of ImageNet-1k, feedback from the last layer.

bash tools/dist_train.sh configs/pretune/toast-last_vit-b16-in1k_8xb64-30e_in1k.py 8
"""

_base_ = [
    '../_base_/backbones/vit-b16_in1k.py',
    '../_base_/methods/toast.py',
    '../_base_/models/vit_pretune_classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/pretune_30e.py',
    '../_base_/pretune_runtime.py',
]

data_preprocessor = dict(**_base_.preprocessing, num_classes=_base_.num_classes)
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(_base_.backbone, **_base_.method),
    head=dict(in_channels=_base_.embed_dims, num_classes=_base_.num_classes),
)
