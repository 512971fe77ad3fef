"""ADE20K: linear head on a frozen ViT-L/14 of DINOv2."""

_base_ = './linear-vit-b14-dinov2_8xb2-40k_ade20k-518x518.py'

_name = 'vit_large_patch14_reg4_dinov2.lvd142m'
model = dict(
    data_preprocessor=dict(model_name=_name),
    backbone=dict(model_name=_name),
    decode_head=dict(in_channels=1024),
)
