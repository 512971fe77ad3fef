"""ADE20K: linear head on a frozen ViT-B/14 of DINOv2, by DINOv2's released recipe.

bash tools/dist_train.sh \
    configs/ade20k/linear-vit-b14-dinov2_8xb2-40k_ade20k-518x518.py 8
"""

_base_ = [
    '../_base_/models/linear_vit-b14-dinov2.py',
    '../_base_/datasets/ade20k_518x518.py',
    '../_base_/schedules/segmentation_linear_40k.py',
    '../_base_/segmentation_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=_base_.num_classes),
)
