"""Samples whose files cannot be read, and others in their place."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

from mmcv.transforms import BaseTransform

from toast_mm.datasets.samplers import DrawnIndex, fetch

SKIPPED = 'skipped_files'  # key of a sample that took the place of others


def fetch_readable(dataset: Any, indices: Sequence[int]) -> list:
    """Fetch samples; the next one takes the place of one whose files cannot be read.

    The result is a function of the data and the indices. The ``data_samples`` of a replacement
    name the files that were skipped, each with its error.

    Raises:
        ValueError: No sample can be read.
    """
    return [_next_readable(dataset, index) for index in indices]


def _next_readable(dataset: Any, index: int) -> dict:
    skipped: list[tuple[str, str]] = []
    for step in range(len(dataset)):
        number: int = (int(index) + step) % len(dataset)
        if isinstance(index, DrawnIndex):
            number = DrawnIndex(number, index.draw)
        try:
            (sample,) = fetch(dataset, [number])
        except Exception as error:
            file = unreadable_file(error)
            if file is None:
                raise
            skipped.append((file, str(error)))
            continue
        if skipped:
            sample['data_samples'].set_metainfo({SKIPPED: skipped})
        return sample
    raise ValueError(f'no sample can be read; the first: {skipped[0][1]}')


def unreadable_file(error: Exception) -> str | None:
    """The file that a transform was loading when an error was raised; None if none was."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        transform, results = frame.f_locals.get('self'), frame.f_locals.get('results')
        loads = isinstance(transform, BaseTransform) and type(transform).__name__.startswith('Load')
        if loads and isinstance(results, dict):
            mask = results.get('seg_map_path')
            of_mask = mask and ('Annotations' in type(transform).__name__ or mask in str(error))
            return str(mask if of_mask else results.get('img_path'))
    return None
