"""Four handwritten digits, of which a cue selects one as the class; a folder per split and class.

tools/dataset_converters/digits.py makes these data."""

num_classes = 10
search = dict(lr=[3e-4, 1e-3, 3e-3], weight_decay=[0.01], seeds=[1, 2, 3])

train_pipeline = [
    dict(type='toast_mm.SeedAugmentation'),
    dict(type='toast_mm.LoadImageFromFile'),
    dict(type='mmpretrain.Resize', scale=(64, 64)),
    dict(type='mmpretrain.PackInputs'),
]
val_pipeline = [
    dict(type='toast_mm.LoadImageFromFile'),
    dict(type='mmpretrain.Resize', scale=(64, 64)),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [
    dict(type='toast_mm.LoadImageFromFile'),
    dict(type='mmpretrain.Resize', scale=(64, 64)),
    dict(type='mmpretrain.PackInputs', algorithm_keys=['gt_bboxes']),  # box of the red card
]

train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='toast_mm.DefaultSampler', shuffle=True),
    collate_fn=dict(type='toast_mm.default_collate'),
    dataset=dict(type='CustomDataset', data_root='data/digits/cued/train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=1,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    collate_fn=dict(type='toast_mm.default_collate'),
    dataset=dict(type='CustomDataset', data_root='data/digits/cued/val', pipeline=val_pipeline),
)
test_dataloader = dict(
    batch_size=100,
    num_workers=1,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    collate_fn=dict(type='toast_mm.default_collate'),
    dataset=dict(
        type='mmpretrain.BaseDataset',
        data_root='data/digits/cued/test',
        ann_file='annotations.json',
        pipeline=test_pipeline,
    ),
)

val_evaluator = dict(type='Accuracy')
test_evaluator = [dict(type='Accuracy'), dict(type='toast_mm.AttentionInside')]
