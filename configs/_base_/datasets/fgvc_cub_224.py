"""CUB-200-2011, 200 classes, and the pipelines of all fine-grained data sets."""

num_classes = 200
lr, weight_decay = 0.03, 5e-4  # as published, for batches of 32

_load = [
    dict(type='toast_mm.LoadImageFromFile'),
    dict(type='mmpretrain.ResizeEdge', scale=256, edge='short', backend='pillow'),
]
train_pipeline = [
    dict(type='toast_mm.SeedAugmentation'),
    *_load,
    dict(type='mmpretrain.RandomCrop', crop_size=224),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [
    *_load,
    dict(type='mmpretrain.CenterCrop', crop_size=224),
    dict(type='mmpretrain.PackInputs'),
]

_dataset = dict(type='toast_mm.CUB', data_root='data/CUB_200_2011')
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='toast_mm.DefaultSampler', shuffle=True),
    collate_fn=dict(type='toast_mm.default_collate'),
    dataset=dict(**_dataset, split='trainval', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    collate_fn=dict(type='toast_mm.default_collate'),
    dataset=dict(**_dataset, split='test', pipeline=test_pipeline),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy')
test_evaluator = val_evaluator
