"""The tools in this process."""

import runpy
import sys
from pathlib import Path

import pytest
from commands import ROOT, as_in_a_new_process


@pytest.fixture
def tool(monkeypatch):
    """Run a tool in this process: ``tool('train', 'config.py', '--amp')``."""

    def run(name: str, *arguments: str) -> None:
        script = str(ROOT / 'tools' / f'{name}.py')
        monkeypatch.setattr(sys, 'argv', [script, *map(str, arguments)])
        as_in_a_new_process()
        runpy.run_path(script, run_name='__main__')

    return run


@pytest.fixture
def classifier_job(folders, tmp_path) -> Path:
    """A classification job of seconds: TOAST on two blocks of a ViT of 16 channels."""
    path = tmp_path / 'classifier.py'
    path.write_text(f"""
_base_ = '{ROOT}/configs/_base_/default_runtime.py'
default_scope = 'mmpretrain'
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
train_pipeline = [
    dict(type='toast_mm.SeedAugmentation'),
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=32),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=32),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='toast_mm.DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_root='{folders}/train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root='{folders}/val', pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy')
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=4)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    constructor='toast_mm.TunedOptimWrapperConstructor', optimizer=dict(type='SGD', lr=0.05)
)
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', interval=1),
    visualization=dict(type='VisualizationHook'),
)
visualizer = dict(type='UniversalVisualizer', vis_backends=_base_.vis_backends)
""")
    return path
