"""Batches of prepared pictures, with a progress bar."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log
from rich.console import Console
from rich.progress import track

from toast_mm.apis.pictures import Preparation, Sample

ON_ERROR = ('raise', 'skip')


def batches(
    preparation: Preparation,
    pictures: Sequence[Any],
    batch_size: int,
    progress: bool,
    on_error: str,
) -> Iterator[list[tuple[int, Sample]]]:
    """Prepare pictures one by one and yield them in batches, each with its number.

    The images of a batch have one size, so none is padded for another.

    Args:
        preparation: The test pipeline.
        pictures: Paths, arrays or PIL images.
        batch_size: Largest size of a batch.
        progress: Whether to show a progress bar, on standard error.
        on_error: ``'raise'``, or ``'skip'`` to leave out pictures that cannot be read, which a
            warning names.

    Raises:
        OSError: A picture cannot be opened, unless it is skipped.
        ValueError: A picture cannot be read, unless it is skipped; or an argument is wrong.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f'batch_size={batch_size!r} must be a whole number of at least 1')
    if on_error not in ON_ERROR:
        raise ValueError(f'on_error={on_error!r} must be one of {ON_ERROR}')
    waiting: dict[tuple[int, ...], list[tuple[int, Sample]]] = {}
    bar = track(
        pictures,
        'Predicting',
        # Standard output is for results. In notebooks, rich would need ipywidgets.
        console=Console(stderr=True, force_jupyter=False),
        disable=not progress or len(pictures) == 1,
    )
    for number, picture in enumerate(bar):
        try:
            sample = preparation(picture)
        except (OSError, ValueError) as error:
            if on_error == 'raise':
                raise
            print_log(f'skipped: {error}', logger='current', level=logging.WARNING)
            continue
        size = tuple(sample.packed['inputs'].shape)
        waiting.setdefault(size, []).append((number, sample))
        if len(waiting[size]) == batch_size:
            yield waiting.pop(size)
    yield from waiting.values()


def collate(batch: Sequence[tuple[int, Sample]]) -> dict[str, Any]:
    """Collate a batch for a model."""
    return pseudo_collate([sample.packed for _, sample in batch])
