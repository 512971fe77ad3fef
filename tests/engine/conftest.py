"""A toy model and a toy data set of scope ``toast_mm``, and configs that train them."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from torch import nn

from toast_mm.registry import DATASETS, METRICS, MODELS, TRANSFORMS

_number = itertools.count()


@MODELS.register_module(force=True)
class ToyModel(BaseModel):
    """Frozen normed backbone, then a linear head behind dropout; predicts the mean of an image."""

    def __init__(self, dropout: float = 0.5, head: str = 'head', **kwargs) -> None:
        super().__init__(**kwargs)
        self.backbone = nn.Sequential(nn.Linear(3, 8), nn.SyncBatchNorm(8, affine=False))
        self.backbone.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.head_name = head
        setattr(self, head, nn.Linear(8, 1))

    def train(self, mode: bool = True) -> ToyModel:
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, inputs, target, draw=None, mode='tensor'):
        target = torch.stack(target)
        output = getattr(self, self.head_name)(self.dropout(self.backbone(torch.stack(inputs))))
        if mode == 'loss':
            return dict(loss=(output[:, 0] - target).square().mean())
        return [dict(error=error) for error in (output[:, 0] - target).abs()]


@DATASETS.register_module(force=True)
class ToyDataset(BaseDataset):
    """Item i is ``(i, i + 1, i + 2) / 10`` with target ``i``."""

    METAINFO = dict(classes=('a', 'b'))

    def __init__(self, size: int = 7, **kwargs) -> None:
        self.size = size
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        return [dict(inputs=[i, i + 1, i + 2], target=float(i)) for i in range(self.size)]


@TRANSFORMS.register_module(force=True)
class ToyAugmentation(BaseTransform):
    """Noise from every generator that a transform may use."""

    def transform(self, results: dict) -> dict:
        noise = random.random() + np.random.rand() + torch.rand(3)
        return dict(
            inputs=torch.tensor(results['inputs']) / 10 + 0.1 * noise,
            target=torch.tensor(results['target']),
            draw=getattr(results['sample_idx'], 'draw', None),
        )


@METRICS.register_module(force=True)
class ToyError(BaseMetric):
    """Mean absolute error, disturbing all random states on the way."""

    def process(self, data_batch, data_samples) -> None:
        random.random(), np.random.rand(), torch.rand(5)
        self.results += [sample['error'].item() for sample in data_samples]

    def compute_metrics(self, results: list) -> dict:
        return dict(error=float(np.mean(results)))


def toy_config(work_dir, by_epoch: bool = False, num_workers: int = 0, **changes) -> Config:
    """Train 9 iterations of 2 images (or 3 epochs of 4 iterations), a checkpoint every 5 (1)."""
    sampler = 'toast_mm.DefaultSampler' if by_epoch else 'toast_mm.InfiniteSampler'
    pipeline = [dict(type='SeedAugmentation'), dict(type='ToyAugmentation')]
    loader = dict(batch_size=2, num_workers=num_workers, persistent_workers=num_workers > 0)
    cfg = Config(
        dict(
            default_scope='toast_mm',
            experiment_name=f'toy{next(_number)}',
            work_dir=str(work_dir),
            model=dict(type='ToyModel'),
            train_dataloader=dict(
                **loader,
                sampler=dict(type=sampler, shuffle=True),
                dataset=dict(type='ToyDataset', pipeline=pipeline),
            ),
            val_dataloader=dict(
                **loader,
                sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
                dataset=dict(type='ToyDataset', pipeline=pipeline[1:]),
            ),
            train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=3)
            if by_epoch
            else dict(type='IterBasedTrainLoop', max_iters=9, val_interval=3),
            val_cfg=dict(),
            val_evaluator=dict(type='ToyError'),
            optim_wrapper=dict(
                constructor='toast_mm.TunedOptimWrapperConstructor',
                optimizer=dict(type='AdamW', lr=0.1),
            ),
            param_scheduler=dict(type='LinearLR', by_epoch=False, end=9),
            default_hooks=dict(
                checkpoint=dict(
                    type='CheckpointHook', by_epoch=by_epoch, interval=1 if by_epoch else 5
                ),
                logger=dict(type='LoggerHook', interval=2),
            ),
            custom_hooks=[dict(type='StepSeedHook'), dict(type='DataCheckHook')],
            log_processor=dict(by_epoch=by_epoch),
            log_level='WARNING',
            randomness=dict(seed=3),
        )
    )
    cfg.test_dataloader, cfg.test_cfg = cfg.val_dataloader, cfg.val_cfg
    cfg.test_evaluator = cfg.val_evaluator
    cfg.merge_from_dict(changes)
    return cfg


@pytest.fixture(name='toy_config')
def toy_config_fixture():
    """Fixture that makes :func:`toy_config` known to the tests of the folder."""
    return toy_config
