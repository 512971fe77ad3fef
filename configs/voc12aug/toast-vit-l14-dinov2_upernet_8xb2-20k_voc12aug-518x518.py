"""PASCAL VOC: UPerNet on a frozen ViT-L/14 of DINOv2 steered from its middle layer."""

_base_ = './toast-vit-b14-dinov2_upernet_8xb2-20k_voc12aug-518x518.py'

_name = 'vit_large_patch14_reg4_dinov2.lvd142m'
model = dict(
    data_preprocessor=dict(model_name=_name),
    backbone=dict(model_name=_name, out_indices=[5, 11, 17, 23]),
    decode_head=dict(in_channels=[1024, 1024, 1024, 1024]),
    auxiliary_head=dict(in_channels=1024),
)
