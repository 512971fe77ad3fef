"""ADE20K with crops that patches of 14 pixels divide."""

_base_ = './ade20k.py'

crop_size = (518, 518)
train_pipeline = [
    dict(step, crop_size=crop_size) if step['type'] == 'mmseg.RandomCrop' else step
    for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
