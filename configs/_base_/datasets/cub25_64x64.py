"""25 species of CUB-200-2011, cut to the birds, in the layout of the original, at 64 x 64."""

num_classes = 25
# Every fifth of the 750 training images is held out while settings are chosen.
search = dict(
    lr=[1e-3, 3e-3, 1e-2],
    weight_decay=[0.01],
    seeds=[1, 2, 3],
    held_out={
        'train_dataloader.dataset.indices': [index for index in range(750) if index % 5],
        'val_dataloader.dataset.split': 'train',
        'val_dataloader.dataset.indices': list(range(0, 750, 5)),
    },
)

train_pipeline = [
    dict(type='toast_mm.SeedAugmentation'),
    dict(type='toast_mm.LoadImageFromFile'),
    dict(type='mmpretrain.RandomResizedCrop', scale=64, crop_ratio_range=(0.5, 1.0)),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [
    dict(type='toast_mm.LoadImageFromFile'),
    dict(type='mmpretrain.Resize', scale=(64, 64)),
    dict(type='mmpretrain.PackInputs'),
]

_dataset = dict(
    type='mmpretrain.CUB',
    data_root='data/cub25_crop96',
    metainfo=dict(classes=[f'species {number}' for number in range(1, 26)]),
)
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='toast_mm.DefaultSampler', shuffle=True),
    collate_fn=dict(type='toast_mm.default_collate'),
    dataset=dict(**_dataset, split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=1,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    collate_fn=dict(type='toast_mm.default_collate'),
    dataset=dict(**_dataset, split='test', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy')
test_evaluator = val_evaluator
