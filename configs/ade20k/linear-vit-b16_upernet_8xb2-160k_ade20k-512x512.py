"""ADE20K: UPerNet on a frozen ViT-B/16, only the heads are tuned."""

_base_ = './toast-vit-b16_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(backbone=dict(feedback_from=None))
