"""PASCAL VOC: the TOAST config, tested in sliding windows of the size of the training crops."""

_base_ = './toast-vit-b16_upernet_8xb2-20k_voc12aug-512x512.py'

model = dict(test_cfg=dict(mode='slide', crop_size=_base_.crop_size, stride=(341, 341)))
