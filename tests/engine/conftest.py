"""A toy model and toy data, and configs of runs of this model and of a small steered classifier."""

from __future__ import annotations

import itertools
import random
from contextlib import suppress

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from torch import Tensor, nn
from toy_images import MEAN, SIZES, STD

from toast_mm.registry import DATASETS, METRICS, MODELS, TRANSFORMS

_number = itertools.count()


@MODELS.register_module(force=True)
class ToyModel(BaseModel):
    """A frozen backbone with a norm, dropout, and a linear head that predicts a number."""

    def __init__(self, dropout: float = 0.5, **kwargs) -> None:
        super().__init__(**kwargs)
        self.backbone = nn.Sequential(nn.Linear(3, 8), nn.SyncBatchNorm(8, affine=False))
        self.backbone.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8, 1)
        self.seen: list[int] = []  # draws trained on

    def train(self, mode: bool = True) -> ToyModel:
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, inputs: list, target: list, draw: list, mode: str = 'tensor') -> dict | list:
        prediction = self.head(self.dropout(self.backbone(torch.stack(inputs))))[:, 0]
        errors = prediction - torch.stack(target)
        if mode == 'predict':
            return [dict(error=error) for error in errors.abs()]
        self.seen += draw
        return dict(loss=errors.square().mean())


@DATASETS.register_module(force=True)
class ToyDataset(BaseDataset):
    """Sample i consists of three numbers and the target i."""

    METAINFO = dict(classes=('a', 'b'))

    def __init__(self, size: int = 7, **kwargs) -> None:
        self.size = size
        kwargs.setdefault('serialize_data', False)  # serializing collects garbage
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        return [dict(inputs=[i, i * i, 1.0], target=float(i)) for i in range(self.size)]


@TRANSFORMS.register_module(force=True)
class ToyAugmentation(BaseTransform):
    """Noise from every generator that a transform may use."""

    def transform(self, results: dict) -> dict:
        noise = random.random() + np.random.rand() + torch.rand(3)
        return dict(
            inputs=torch.tensor(results['inputs']) / 10 + noise,
            target=torch.tensor(results['target']),
            draw=getattr(results['sample_idx'], 'draw', (None, None))[1],
        )


@METRICS.register_module(force=True)
class ToyError(BaseMetric):
    """Mean absolute error that also changes all random states."""

    default_prefix = 'toy'

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        random.random(), np.random.rand(), torch.rand(5)
        self.results += [sample['error'].item() for sample in data_samples]

    def compute_metrics(self, results: list) -> dict:
        return dict(error=float(np.mean(results)))


def toy_config(work_dir, by_epoch: bool = False, num_workers: int = 0, **changes) -> Config:
    """Train 9 iterations of 2 samples, save every 5; by epoch: 3 of 4 iterations, save each.

    Validates every 3 iterations or every epoch. Changes are those of
    ``Config.merge_from_dict``, with ``__`` for a dot.
    """
    loader = dict(batch_size=2, num_workers=num_workers, persistent_workers=num_workers > 0)
    augmentation = [dict(type='toast_mm.ToyAugmentation')]
    test_dataloader = dict(
        **loader,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type='toast_mm.ToyDataset', pipeline=augmentation),
    )
    cfg = Config(
        dict(
            experiment_name=f'toy_{next(_number)}',
            work_dir=str(work_dir),
            model=dict(type='toast_mm.ToyModel'),
            train_dataloader=dict(
                **loader,
                sampler=dict(
                    type='toast_mm.DefaultSampler' if by_epoch else 'toast_mm.InfiniteSampler'
                ),
                dataset=dict(
                    type='toast_mm.ToyDataset',
                    pipeline=[dict(type='toast_mm.SeedAugmentation'), *augmentation],
                ),
            ),
            val_dataloader=test_dataloader,
            test_dataloader=test_dataloader,
            train_cfg=dict(by_epoch=True, max_epochs=3)
            if by_epoch
            else dict(by_epoch=False, max_iters=9, val_interval=3),
            val_cfg=dict(),
            test_cfg=dict(),
            val_evaluator=dict(type='toast_mm.ToyError'),
            test_evaluator=dict(type='toast_mm.ToyError'),
            optim_wrapper=dict(
                constructor='toast_mm.TunedOptimWrapperConstructor',
                optimizer=dict(type='AdamW', lr=0.1),
            ),
            param_scheduler=dict(type='LinearLR', by_epoch=False, end=9),
            default_hooks=dict(
                checkpoint=dict(
                    type='CheckpointHook', by_epoch=by_epoch, interval=1 if by_epoch else 5
                ),
            ),
            custom_hooks=[dict(type='toast_mm.StepSeedHook'), dict(type='toast_mm.DataCheckHook')],
            log_processor=dict(by_epoch=by_epoch),
            log_level='WARNING',
            randomness=dict(seed=3),
        )
    )
    cfg.merge_from_dict({name.replace('__', '.'): value for name, value in changes.items()})
    return cfg


@pytest.fixture(name='toy_config')
def toy_config_fixture(monkeypatch):
    """:func:`toy_config` on the CPU; afterwards mmengine is as in a new process."""
    monkeypatch.setattr('mmengine.device.utils.DEVICE', 'cpu')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    forget_runs()
    yield toy_config
    forget_runs()


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
def one_process_group():
    """A group of this process alone, for DDP."""
    torch.distributed.init_process_group(
        'gloo', store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def forget_runs() -> None:
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            with suppress(OSError):  # of a log on a full disk
                handler.close()
    for manager in (DefaultScope, MessageHub, MMLogger, Visualizer):
        manager._instance_dict.clear()


@pytest.fixture
def toy_weights() -> dict[str, Tensor]:
    """State of a toy model that always predicts 2."""
    weights = MODELS.build(dict(type='ToyModel')).state_dict()
    weights['head.weight'] = torch.zeros(1, 8)
    weights['head.bias'] = torch.tensor([2.0])
    return weights
