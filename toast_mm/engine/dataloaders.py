"""Building data loaders, with checks of the data set, and ending their processes."""

from __future__ import annotations

import os.path as osp
from collections.abc import Sized
from typing import Any

import mmengine.runner
from mmengine.registry import DATASETS
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from toast_mm.datasets.kept_images import keep_images
from toast_mm.datasets.passed_over import passed_over
from toast_mm.engine.class_names import leaves

MARK = '\ufeff'  # byte order mark


def build_dataloader(dataloader: Any, *args: Any, **kwargs: Any) -> DataLoader:
    """Build a loader as mmengine does, with a clear error for an empty data set.

    An infinite sampler of an empty data set would search for a sample forever.

    Raises:
        ValueError: The data set is empty; the message says where it looks for samples.
    """
    dataset = dataloader['dataset'] if isinstance(dataloader, dict) else dataloader.dataset
    try:
        loader = mmengine.runner.Runner.build_dataloader(dataloader, *args, **kwargs)
    except (ValueError, RuntimeError) as error:
        if not any(words in str(error) for words in ('need at least one array', 'Found 0 files')):
            raise
        raise ValueError(_sentence(dataset)) from None
    check_samples(loader.dataset, dataset)
    for part in leaves(loader.dataset):  # before processes that load data start
        keep_images(part)
    return loader


def check_samples(dataset: Any, config: Any) -> None:
    """Check that a data set has samples, and that its lists begin with their first word.

    Args:
        dataset: The data set.
        config: Its config, which says where it looks for samples, or the data set itself.

    Raises:
        ValueError: The data set is empty; the message says where it looks for samples. Or a list
            begins with a byte order mark.
    """
    if isinstance(dataset, Sized) and not len(dataset):
        raise ValueError(_sentence(config))
    for leaf in leaves(dataset):
        if marked := _marked_list(leaf):
            raise ValueError(
                f'{marked} begins with a byte order mark, which mmengine takes for a part of the '
                'first line: save it as UTF-8 without BOM'
            )


def _marked_list(dataset: Any) -> str | None:
    """Name the list of a data set that begins with the mark of an editor, if one does."""
    classes = getattr(dataset, 'metainfo', {}).get('classes') or ('',)
    if str(classes[0]).startswith(MARK):
        return f'the list of the classes {", ".join(map(str, classes[:3]))!r}'
    if not (getattr(dataset, 'ann_file', None) and hasattr(dataset, 'get_data_info')):
        return None
    path = str(dataset.get_data_info(0).get('img_path'))
    return str(dataset.ann_file) if MARK in path and not osp.exists(path) else None


def stop_workers(loop: Any) -> None:
    """End the processes that load data for a loop of a Runner.

    A Runner is in reference cycles. If Python collects the loader with them, its queues are closed
    before the workers are told to end, and PyTorch waits 5 seconds for each loader.
    """
    loader = getattr(loop, 'dataloader', None)
    if not isinstance(loader, DataLoader):
        return  # the loop has not been built
    endless = getattr(loop, 'dataloader_iterator', None)
    for iterator in (loader._iterator, getattr(endless, '_iterator', None)):
        if isinstance(iterator, _MultiProcessingDataLoaderIter):
            iterator._shutdown_workers()
    loader._iterator = None


def _sentence(dataset: Any) -> str:
    return f'the data set is empty: {_sources(dataset)} finds no sample'


def _sources(dataset: Any) -> str:
    """Where a configured data set, or each of its parts, looks for samples."""
    if not isinstance(dataset, dict):
        return type(dataset).__name__
    parts = dataset.get('datasets') or [dataset[key] for key in dataset if key == 'dataset']
    if parts:
        return ', '.join(map(_sources, parts))
    try:
        there = passed_over(DATASETS.build({**dataset, 'lazy_init': True}))
    except (AssertionError, LookupError, OSError, RuntimeError, TypeError, ValueError):
        # It may fail for the same reason for which it is empty.
        there = None
    places = ('data_root', 'data_prefix', 'ann_file', 'split')
    where = ', '.join(f'{key}={dataset[key]!r}' for key in places if key in dataset)
    return f'{dataset["type"]}({where}){f", where there are {there}," if there else ""}'
