"""100 classes of Tiny-ImageNet, enlarged to 128 x 128: a sixth of the training images, and a fifth
of the validation images."""

_base_ = './tinyin100_64x64.py'

_size = dict(type='mmpretrain.Resize', scale=(128, 128), interpolation='bicubic')
train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        indices=list(range(0, 30000, 6)),
        pipeline=[
            dict(type='toast_mm.SeedAugmentation'),
            dict(type='toast_mm.LoadImageFromFile'),
            dict(type='mmpretrain.RandomResizedCrop', scale=128, crop_ratio_range=(0.5, 1.0)),
            dict(type='mmpretrain.RandomFlip', prob=0.5),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=64,
    dataset=dict(
        indices=list(range(0, 3000, 5)),
        pipeline=[
            dict(type='toast_mm.LoadImageFromFile'),
            _size,
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
)
test_dataloader = val_dataloader
