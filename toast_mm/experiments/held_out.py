"""Check that held-out images are not used for training or testing."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from toast_mm.engine.config import ConfigError

from .protocol import Task


def check_held_out(task: Task) -> None:
    """Check that a search validates neither on its training images nor on test images.

    Images are compared by their paths; data sets without paths are not checked.

    Raises:
        ConfigError: An image is in both parts; the message names the task, the parts and the image.
    """
    point, *_ = task.grid
    search, final = task.search_run(point).load(), task.final_run(point, 0).load()
    init_default_scope(search.get('default_scope', 'mmengine'))
    held_out = _images(search.val_dataloader)
    for part, loader in (
        ('trained on', search.train_dataloader),
        ('used for the final test', final.val_dataloader),
    ):
        both = held_out & _images(loader)
        if both:
            raise ConfigError(
                f'{task.name}: the search would choose by {len(both)} images that are also {part}, '
                f'such as {min(both)}; hold other images out of the training data, by '
                "search=dict(held_out={'train_dataloader.dataset.<...>': ..., "
                "'val_dataloader.dataset.<...>': ...})"
            )


def _images(loader: Config) -> set[str]:
    dataset: Any = DATASETS.build(loader.dataset)
    samples = (dataset.get_data_info(index) for index in range(len(dataset)))
    return {sample['img_path'] for sample in samples if 'img_path' in sample}
