"""136 handwritten characters of Omniglot at 64 x 64, without augmentation.

tools/dataset_converters/split_folders.py draws the lists."""

num_classes = 136
search = dict(lr=[1e-3, 3e-3, 1e-2], weight_decay=[0.01], seeds=[1, 2])

_pipeline = [
    dict(type='toast_mm.LoadImageFromFile'),
    dict(type='mmpretrain.Resize', scale=(64, 64), interpolation='area'),
    dict(type='mmpretrain.PackInputs'),
]
_dataset = dict(
    type='toast_mm.VTAB', data_root='work_dirs/lists', task='omniglot', pipeline=_pipeline
)
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='toast_mm.DefaultSampler', shuffle=True),
    collate_fn=dict(type='toast_mm.default_collate'),
    dataset=dict(**_dataset, split='trainval'),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=1,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    collate_fn=dict(type='toast_mm.default_collate'),
    dataset=dict(**_dataset, split='test'),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy')
test_evaluator = val_evaluator
