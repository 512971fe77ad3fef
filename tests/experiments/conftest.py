"""A classification job of seconds for sweeps."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(folders, tmp_path) -> str:
    path = tmp_path / 'job.py'
    path.write_text(f"""
_base_ = '{ROOT}/configs/_base_/classification_runtime.py'
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='toast_mm.TOASTViT',
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        img_size=32,
        patch_size=8,
    ),
    head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=16),
    data_preprocessor=dict(num_classes=2, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True),
)
pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=32), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='toast_mm.DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_root='{folders}/train', pipeline=pipeline),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root='{folders}/val', pipeline=pipeline),
)
val_evaluator = dict(type='Accuracy')
train_cfg = dict(by_epoch=True, max_epochs=2)
val_cfg = dict()
optim_wrapper = dict(
    constructor='toast_mm.TunedOptimWrapperConstructor', optimizer=dict(type='SGD', lr=0.05)
)
""")
    return str(path)
