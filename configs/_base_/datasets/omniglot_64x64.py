"""136 handwritten characters of Omniglot at 64 x 64, without augmentation: lists that
tools/dataset_converters/split_folders.py draws."""

_base_ = './vtab_224.py'

task = 'omniglot'
num_classes = 136
search = dict(lr=[1e-3, 3e-3, 1e-2], weight_decay=[0.01], seeds=[1, 2])
auto_scale_lr = dict(enable=False)

_dataset = dict(
    data_root='work_dirs/lists',
    task=task,
    pipeline=[
        dict(type='toast_mm.LoadImageFromFile'),
        dict(type='Resize', scale=(64, 64), interpolation='area'),
        dict(type='PackInputs'),
    ],
)
train_dataloader = dict(num_workers=1, dataset=_dataset)
val_dataloader = dict(num_workers=1, dataset=_dataset)
test_dataloader = val_dataloader
