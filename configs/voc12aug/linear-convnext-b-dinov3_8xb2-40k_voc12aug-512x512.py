"""PASCAL VOC: linear head on a frozen ConvNeXt-B of DINOv3."""

_base_ = './linear-vit-b16-dinov3_8xb2-40k_voc12aug-512x512.py'

_name = 'convnext_base.dinov3_lvd1689m'
model = dict(
    data_preprocessor=dict(model_name=_name),
    backbone=dict(model_name=_name),
    decode_head=dict(in_channels=1024),
)
