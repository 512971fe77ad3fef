"""ImageNet-1k at 224 x 224 with mmpretrain's pipelines of DeiT, in mmpretrain's layout."""

_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py'

num_classes = 1000

train_pipeline = [dict(type='toast_mm.SeedAugmentation'), *_base_.train_pipeline]
train_dataloader = dict(
    persistent_workers=True,
    sampler=dict(type='toast_mm.DefaultSampler'),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(persistent_workers=True)
test_dataloader = val_dataloader
