"""Your own images in a folder per class; a job names data_root, classes, and lists or folders.

tools/new_job.py writes such jobs."""

train_pipeline = [
    dict(type='toast_mm.SeedAugmentation'),
    dict(type='toast_mm.LoadImageFromFile'),
    dict(
        type='mmpretrain.RandomResizedCrop',
        scale=(224, 224),
        crop_ratio_range=(0.5, 1.0),
        interpolation='bicubic',
        backend='pillow',  # which does not skip pixels of large photographs
    ),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [
    dict(type='toast_mm.LoadImageFromFile'),
    dict(type='mmpretrain.Resize', scale=(224, 224), interpolation='bicubic', backend='pillow'),
    dict(type='mmpretrain.PackInputs'),
]

_dataset = dict(
    type='CustomDataset',
    extensions=['.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp'],
)
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='toast_mm.DefaultSampler', shuffle=True),
    collate_fn=dict(type='toast_mm.default_collate'),
    dataset=dict(**_dataset, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    collate_fn=dict(type='toast_mm.default_collate'),
    dataset=dict(**_dataset, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy')
test_evaluator = val_evaluator
