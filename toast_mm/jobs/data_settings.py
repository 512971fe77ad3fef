"""Settings of the data of a job: pipelines, where they differ from the base, and loaders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config

from .choices import Choices
from .own_data import SPLITS, OwnData
from .text import Code

_IN_PROCESS = 2000  # so many small images need no processes that load them


def data_settings(
    data: OwnData,
    parent: Config,
    dense: bool,
    size: int,
    lists: Path,
    choices: Choices,
    small: bool,
) -> dict[str, Any]:
    """Pipelines, where they differ, and data loaders."""
    sizes: dict[str, Any] = dict(scale=(4 * size, size) if dense else (size, size))
    sizes.update(dict(crop_size=(size, size)) if dense else {})
    inherited = {key: step[key] for step in parent.train_pipeline for key in sizes if key in step}
    resized = {key: tuple(value) for key, value in inherited.items()} != sizes
    settings: dict[str, Any] = dict(_sizes=sizes) if resized else {}
    pipelines = ['train_pipeline'] * (resized or not choices.flip) + ['test_pipeline'] * resized
    for name in pipelines:
        unflipped = name == 'train_pipeline' and not choices.flip
        settings[name] = _pipeline(name, resized, unflipped)
    settings['_data'] = {**data.dataset(), **({} if data.folders else data.place(''))}
    loading: dict[str, Any] = {}
    if small and len(data.samples['train']) <= _IN_PROCESS:
        settings['_here'] = dict(num_workers=0, persistent_workers=False)
        loading = {'**_here': None}
    batch = choices.batch_size or _batch_size(len(data.samples['train']), dense, small)
    for split in SPLITS:
        if split == 'test' and data.samples['test'] is data.samples['val']:
            settings['test_dataloader'] = Code('val_dataloader')
            continue
        place = dict(ann_file=str(lists / f'{split}.txt'))
        if data.folders:
            place = data.place(data.folders[split])
        dataset = {'**_data': None, **place}
        pipeline = 'train_pipeline' if split == 'train' else 'test_pipeline'
        if pipeline in pipelines:
            dataset['pipeline'] = Code(pipeline)
        loader = {**loading, 'dataset': dataset}
        if split == 'train' and batch != parent.train_dataloader.batch_size:
            loader = {'batch_size': batch, **loader}
        settings[f'{split}_dataloader'] = loader
    return settings


def _pipeline(name: str, resized: bool, unflipped: bool) -> Code:
    """An inherited pipeline with other sizes, or without flips."""
    step = '{key: _sizes.get(key, value) for key, value in step.items()}' if resized else 'step'
    lines = [step, f'for step in _base_.{name}']
    lines += ["if not step['type'].endswith('RandomFlip')"] * unflipped
    return Code('[\n' + ''.join(f'    {line}\n' for line in lines) + ']')


def _batch_size(images: int, dense: bool, small: bool) -> int:
    """The batch of the schedules; a classifier with few images gets three steps per epoch."""
    if dense:
        return 8 if small else 16
    return min(32, max(8, images // 3)) if small else 32
