"""25 species of CUB-200-2011, cut to the birds, in the layout of the original, at 128 x 128."""

_base_ = './cub25_64x64.py'

# First passes are cached: no random augmentation, of which four epochs would show little.
_pipeline = [
    dict(type='toast_mm.LoadImageFromFile'),
    dict(type='mmpretrain.Resize', scale=(128, 128), interpolation='bicubic'),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(dataset=dict(data_root='data/cub25_crop144', pipeline=_pipeline))
val_dataloader = dict(dataset=dict(data_root='data/cub25_crop144', pipeline=_pipeline))
test_dataloader = val_dataloader
