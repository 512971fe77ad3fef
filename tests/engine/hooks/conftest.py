"""A small steered classifier, and the config of a run that trains it on toy images."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from toy_images import MEAN, SIZES, STD, Spy

from toast_mm.engine import Runner


@pytest.fixture
def steered_config(toy_config):
    """Config of 3 iterations of 2 images, without validation: ``steered_config(dir, *hooks)``.

    ``backbone`` are arguments of ``TOASTViT``; other changes are as for ``toy_config``.
    """

    def make(work_dir, *hooks: dict, backbone: dict | None = None, **changes) -> Config:
        changes = (
            dict(
                optim_wrapper__optimizer=dict(type='SGD', lr=0.1),
                param_scheduler=None,
                custom_hooks=[dict(type='toast_mm.StepSeedHook'), *hooks],
            )
            | changes
        )
        if not changes.get('by_epoch'):
            changes.setdefault('train_cfg__max_iters', 3)
        cfg = toy_config(work_dir, **changes)
        for part in ('cfg', 'dataloader', 'evaluator'):
            cfg[f'val_{part}'] = cfg[f'test_{part}'] = None
        pipeline = [dict(type='toast_mm.SeedAugmentation'), dict(type='toast_mm.PackToyImage')]
        cfg.train_dataloader.dataset = ConfigDict(type='toast_mm.ToyImages', pipeline=pipeline)
        cfg.model = ConfigDict(
            type='ImageClassifier',
            _scope_='mmpretrain',
            backbone=dict(type='toast_mm.TOASTViT', **SIZES, **(backbone or {})),
            head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=16),
            data_preprocessor=dict(mean=MEAN, std=STD, to_rgb=True),
        )
        return cfg

    return make


@pytest.fixture
def spy() -> Spy:
    return Spy()


@pytest.fixture
def run():
    """Train from a config; hooks may be objects."""

    def train(cfg: Config, *hooks: Hook, wrap=None) -> Runner:
        runner = Runner.from_cfg(cfg)
        for hook in hooks:
            runner.register_hook(hook)
        if wrap:
            runner.model = wrap(runner.model)
        runner.train()
        return runner

    return train


@pytest.fixture
def one_process_group():
    """A group of this process alone, for DDP."""
    torch.distributed.init_process_group(
        'gloo', store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()
