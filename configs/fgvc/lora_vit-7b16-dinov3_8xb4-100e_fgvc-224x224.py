"""FGVC on ViT-7B/16 (DINOv3): LoRA, weights sharded over 8 GPUs.

Experimental: nobody has run it on GPUs. bash tools/dist_train.sh \
    configs/fgvc/lora_vit-7b16-dinov3_8xb4-100e_fgvc-224x224.py 8
"""

_base_ = './toast-last_vit-g14-dinov2_8xb4-100e_fgvc-224x224.py'

_name = 'vit_7b_patch16_dinov3.lvd1689m'
model = dict(
    data_preprocessor=dict(model_name=_name),
    backbone=dict(
        model_name=_name,
        feedback_from=None,
        tuning=dict(type='toast_mm.LoRA', rank=4, alpha=1.0),
    ),
    head=dict(in_channels=4096),
)
