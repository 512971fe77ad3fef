"""ADE20K: UPerNet on a frozen ViT-B/16 of SigLIP 2 steered from its middle layer."""

_base_ = './toast-vit-b16-dinov3_upernet_8xb2-160k_ade20k-512x512.py'

_name = 'vit_base_patch16_siglip_512.v2_webli'
model = dict(data_preprocessor=dict(model_name=_name), backbone=dict(model_name=_name))
