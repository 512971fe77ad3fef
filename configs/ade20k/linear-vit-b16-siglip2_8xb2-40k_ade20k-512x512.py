"""ADE20K: linear head on a frozen ViT-B/16 of SigLIP 2."""

_base_ = './linear-vit-b16-dinov3_8xb2-40k_ade20k-512x512.py'

_name = 'vit_base_patch16_siglip_512.v2_webli'
model = dict(data_preprocessor=dict(model_name=_name), backbone=dict(model_name=_name))
