"""PASCAL VOC: linear head on a frozen ViT-B/16 of DINOv3, by DINOv3's released recipe.

bash tools/dist_train.sh \
    configs/voc12aug/linear-vit-b16-dinov3_8xb2-40k_voc12aug-512x512.py 8
"""

_base_ = [
    '../_base_/models/linear_vit-b14-dinov2.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/schedules/segmentation_linear_40k_cosine.py',
    '../_base_/segmentation_runtime.py',
]

_name = 'vit_base_patch16_dinov3.lvd1689m'
model = dict(
    data_preprocessor=dict(model_name=_name, size=_base_.crop_size, test_cfg=dict(size_divisor=16)),
    backbone=dict(model_name=_name),
    decode_head=dict(num_classes=_base_.num_classes, dropout_ratio=0.1),
    test_cfg=dict(crop_size=_base_.crop_size),
)
