"""voc12aug_toast_upernet.py, tested in sliding windows of the size of the training crops."""

_base_ = './voc12aug_toast_upernet.py'

model = dict(test_cfg=dict(mode='slide', crop_size=_base_.crop_size, stride=(341, 341)))
