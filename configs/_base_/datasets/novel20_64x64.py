"""20 classes of Tiny-ImageNet at 64 x 64 that no small base has seen, one folder per class."""

_base_ = './tinyin100_64x64.py'

num_classes = 20
train_dataloader = dict(batch_size=64, dataset=dict(data_root='data/tinyin/novel20/train'))
val_dataloader = dict(batch_size=100, dataset=dict(data_root='data/tinyin/novel20/val'))
test_dataloader = val_dataloader
