"""ADE20K: UPerNet and ViT-B/16, full fine-tuning (paper table 6)."""

_base_ = './toast-vit-b16_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(backbone=dict(feedback_from=None, frozen=False))
