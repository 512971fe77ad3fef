"""Stanford Dogs, 120 classes."""

_base_ = './fgvc_cub_224.py'

num_classes = 120
lr, weight_decay = 0.02, 1e-4
_dataset = dict(type='toast_mm.StanfordDogs', data_root='data/Stanford_Dogs')
train_dataloader = dict(dataset=_dataset)
val_dataloader = dict(dataset=_dataset)
test_dataloader = val_dataloader
