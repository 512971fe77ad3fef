"""Stanford Cars, 196 classes."""

_base_ = './fgvc_cub_224.py'

num_classes = 196
lr, weight_decay = 0.02, 1e-4
_dataset = dict(type='toast_mm.StanfordCars', data_root='data/Stanford_Cars')
train_dataloader = dict(dataset=_dataset)
val_dataloader = dict(dataset=_dataset)
test_dataloader = val_dataloader
