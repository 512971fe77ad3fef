"""Whether what is held out is held out."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from toast_mm.engine.config import ConfigError

from .protocol import Task


def check_held_out(task: Task) -> None:
    """Refuse a search that validates on images that it trains on, or that are for testing.

    Images are told apart by their paths; data sets without paths are not looked into.

    Raises:
        ConfigError: Names the task, the two parts of its data, and an image that is in both.
    """
    point, *_ = task.grid
    search, final = task.search_run(point).load(), task.final_run(point, 0).load()
    init_default_scope(search.get('default_scope', 'mmengine'))
    held_out = _images(search.val_dataloader)
    for part, loader in (
        ('trains', search.train_dataloader),
        ('is tested in the end', final.val_dataloader),
    ):
        both = held_out & _images(loader)
        if both:
            raise ConfigError(
                f'{task.name}: the search would choose by {len(both)} images on which it {part}, '
                f'{min(both)} for one; hold others out of the training data, by '
                "search=dict(held_out={'train_dataloader.dataset.<...>': ..., "
                "'val_dataloader.dataset.<...>': ...})"
            )


def _images(loader: Config) -> set[str]:
    dataset: Any = DATASETS.build(loader.dataset)
    samples = (dataset.get_data_info(index) for index in range(len(dataset)))
    return {sample['img_path'] for sample in samples if 'img_path' in sample}
