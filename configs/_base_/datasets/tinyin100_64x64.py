"""100 classes of Tiny-ImageNet at 64 x 64, one folder per class, for training small backbones."""

num_classes = 100

train_pipeline = [
    dict(type='toast_mm.SeedAugmentation'),
    dict(type='toast_mm.LoadImageFromFile'),
    dict(type='mmpretrain.RandomResizedCrop', scale=64, crop_ratio_range=(0.25, 1.0)),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3),
    dict(type='mmpretrain.PackInputs'),
]
# Half the work per image, for the first epochs of a training from scratch.
train_pipeline_48x48 = [
    dict(transform, scale=48) if transform['type'] == 'mmpretrain.RandomResizedCrop' else transform
    for transform in train_pipeline
]
test_pipeline = [dict(type='toast_mm.LoadImageFromFile'), dict(type='mmpretrain.PackInputs')]

train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='toast_mm.DefaultSampler', shuffle=True),
    collate_fn=dict(type='toast_mm.default_collate'),
    dataset=dict(
        type='CustomDataset', data_root='data/tinyin/base100/train', pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=1,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    collate_fn=dict(type='toast_mm.default_collate'),
    dataset=dict(type='CustomDataset', data_root='data/tinyin/base100/val', pipeline=test_pipeline),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
