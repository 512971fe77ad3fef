"""WikiArt, 195 artists: a folder per split and class."""

_base_ = './fgvc_cub_224.py'

num_classes = 195
lr, weight_decay = 0.01, 1e-4
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/wikiart/train',
        pipeline=_base_.train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/wikiart/test',
        pipeline=_base_.test_pipeline,
    )
)
test_dataloader = val_dataloader
