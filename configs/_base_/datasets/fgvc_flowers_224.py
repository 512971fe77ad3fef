"""Oxford Flowers, 102 classes."""

_base_ = './fgvc_cub_224.py'

num_classes = 102
lr, weight_decay = 0.01, 1e-4
_dataset = dict(type='toast_mm.Flowers102', data_root='data/Flowers102')
train_dataloader = dict(dataset=_dataset)
val_dataloader = dict(dataset=_dataset)
test_dataloader = val_dataloader
