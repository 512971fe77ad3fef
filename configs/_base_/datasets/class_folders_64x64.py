"""Your own images in a folder per class, at 64 x 64."""

_base_ = './class_folders_224x224.py'

_sizes = dict(scale=(64, 64))
train_pipeline = [{k: _sizes.get(k, v) for k, v in step.items()} for step in _base_.train_pipeline]
test_pipeline = [{k: _sizes.get(k, v) for k, v in step.items()} for step in _base_.test_pipeline]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
