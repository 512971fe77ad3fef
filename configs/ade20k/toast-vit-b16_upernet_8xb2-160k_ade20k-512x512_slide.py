"""ADE20K: the TOAST config, tested in sliding windows of the size of the training crops."""

_base_ = './toast-vit-b16_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(test_cfg=dict(mode='slide', crop_size=_base_.crop_size, stride=(341, 341)))
