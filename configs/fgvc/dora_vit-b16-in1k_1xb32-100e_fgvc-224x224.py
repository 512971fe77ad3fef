"""FGVC on ViT-B/16 (ImageNet-1k): DoRA, by Hugging Face peft (pip install "toast_mm[peft]")."""

_base_ = './linear_vit-b16-in1k_1xb32-100e_fgvc-224x224.py'

model = dict(
    backbone=dict(
        tuning=dict(
            type='toast_mm.PEFT',
            config=dict(peft_type='LORA', use_dora=True, r=4, lora_alpha=4),
        )
    )
)
