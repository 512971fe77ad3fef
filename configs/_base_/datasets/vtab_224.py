"""A task of VTAB-1k at 224 x 224, without augmentation, and the search of its settings.

The environment variable DATASET chooses the task; tools/vtab.py runs several, including your own.
"""

_classes = dict(
    cifar=100, caltech101=102, dtd=47, oxford_flowers102=102, oxford_iiit_pet=37, svhn=10,
    sun397=397, patch_camelyon=2, eurosat=10, resisc45=45, diabetic_retinopathy=5, clevr_count=8,
    clevr_dist=6, dmlab=6, kitti=4, dsprites_loc=16, dsprites_ori=16, smallnorb_azi=18,
    smallnorb_ele=9,
)  # fmt: skip
task = '{{$DATASET:cifar}}'
if task not in _classes:
    raise ValueError(
        f'the environment variable DATASET={task} must be one of {", ".join(_classes)}'
    )
num_classes = _classes[task]
# Published rates are for batches of 256 and are scaled to those of 32 here.
search = dict(
    lr=[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0],
    weight_decay=[0.01, 0.001, 1e-4, 0.0],
    seeds=[42, 44, 82, 100, 800],
)
auto_scale_lr = dict(enable=True, base_batch_size=256)

_pipeline = [
    dict(type='toast_mm.LoadImageFromFile'),
    dict(type='mmpretrain.Resize', scale=(224, 224), backend='pillow'),
    dict(type='mmpretrain.PackInputs'),
]
_dataset = dict(type='toast_mm.VTAB', data_root='data/vtab-1k', task=task, pipeline=_pipeline)
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='toast_mm.DefaultSampler', shuffle=True),
    collate_fn=dict(type='toast_mm.default_collate'),
    dataset=dict(**_dataset, split='trainval'),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    collate_fn=dict(type='toast_mm.default_collate'),
    dataset=dict(**_dataset, split='test'),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy')
test_evaluator = val_evaluator
