"""NABirds, 555 classes."""

_base_ = './fgvc_cub_224.py'

num_classes = 555
lr, weight_decay = 0.01, 1e-2
_dataset = dict(type='toast_mm.NABirds', data_root='data/nabirds')
train_dataloader = dict(dataset=_dataset)
val_dataloader = dict(dataset=_dataset)
test_dataloader = val_dataloader
