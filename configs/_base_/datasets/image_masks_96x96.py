"""Your own images and masks, with crops of 96 x 96; a job names data_root, metainfo and suffixes.

tools/new_job.py writes such jobs."""

_base_ = './segmentation_512x512.py'

crop_size = (96, 96)
_sizes = dict(scale=(384, 96), crop_size=crop_size)
train_pipeline = [{k: _sizes.get(k, v) for k, v in step.items()} for step in _base_.train_pipeline]
test_pipeline = [{k: _sizes.get(k, v) for k, v in step.items()} for step in _base_.test_pipeline]

train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
