"""The settings of a job: base configs, and what differs from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from toast_mm.engine.config import ConfigError, read_config

from .bases import CONFIGS, Base
from .choices import Choices
from .data_settings import data_settings
from .methods import is_steered, method_optimizer
from .model_settings import model_settings
from .own_data import OwnData
from .text import Code

_FEW_STEPS = 100  # a small backbone is trained for as many, by more epochs than the schedule has


def job_settings(
    base: Base, data: OwnData, method: str, lists: Path, choices: Choices
) -> dict[str, Any]:
    """The settings of a job, in their order in the config.

    Args:
        base: The backbone.
        data: The data.
        method: Name of the method.
        lists: Folder of the lists of images, if the data needs some.
        choices: What the user chooses.

    Raises:
        ConfigError: A setting does not fit the others.
    """
    choices.check(data.task)
    dense = data.task == 'segmentation'
    size = choices.image_size or base.image_size
    if size % base.patch:
        raise ConfigError(
            f'image_size={size} must be a multiple of {base.patch}, the patch of {base.name}'
        )
    names = _base_names(base, dense, size)
    parent = _parent(tuple(names))
    optim = _optimizer(parent, method) if not (base.small or dense) else {}
    if choices.lr is not None:
        optim = {**optim, 'lr': choices.lr}
    settings = {
        '_base_': [f'toast_mm::_base_/{name}.py' for name in names],
        **data_settings(data, parent, dense, size, lists, choices, base.small),
        'model': model_settings(base, parent, method, data, size, choices),
    }
    if optim:
        settings['optim_wrapper'] = dict(optimizer=optim)
    batch = settings['train_dataloader'].get('batch_size', parent.train_dataloader.batch_size)
    steps = math.ceil(len(data.samples['train']) / batch)
    settings.update(_schedule(parent, dense, steps, choices, base.small))
    if is_steered(method):
        hooks = "[*_base_.custom_hooks, dict(type='toast_mm.MeanTokenInitHook')]"
        settings['custom_hooks'] = Code(hooks)
    if choices.seed:
        settings['randomness'] = dict(seed=choices.seed)
    settings['task_files'] = True
    return settings


def _base_names(base: Base, dense: bool, size: int) -> list[str]:
    """Names of the base configs: model, data, schedule and runtime."""
    if dense:
        data = 'image_masks_96x96' if base.small else 'segmentation_512x512'
        schedule = 'segmentation_600' if base.small else 'segmentation_20k'
        runtime = 'segmentation_runtime'
    else:
        data = f'class_folders_{size}x{size}'
        if not (CONFIGS / '_base_' / 'datasets' / f'{data}.py').is_file():
            data = 'class_folders_224x224'
        schedule = 'small_20e' if base.small else 'transfer_100e'
        runtime = 'classification_runtime'
    return [f'models/{base.config}', f'datasets/{data}', f'schedules/{schedule}', runtime]


@cache
def _parent(names: tuple[str, ...]) -> Config:
    """What a job inherits, to be read only."""
    merged: dict[str, Any] = {}
    for name in names:
        merged.update(read_config(str(CONFIGS / '_base_' / f'{name}.py')).to_dict())
    return Config(merged)


def _optimizer(parent: Config, method: str) -> dict[str, Any]:
    """What the published optimizer of a method adds to the schedule."""
    published = method_optimizer(method)
    inherited = parent.optim_wrapper.optimizer
    if published['type'] != inherited.type:
        return dict(_delete_=True, **published)
    return {key: value for key, value in published.items() if inherited.get(key) != value}


def _schedule(
    parent: Config, dense: bool, steps: int, choices: Choices, small: bool
) -> dict[str, Any]:
    """Another length of the schedule, with all its phases, if one is asked for or needed."""
    key = 'max_iters' if dense else 'max_epochs'
    inherited = parent.train_cfg[key]
    length = choices.max_iters if dense else choices.epochs
    if length is None:
        many = math.ceil(_FEW_STEPS / steps)
        length = inherited if dense or not small else max(inherited, many)
    if length == inherited:
        return {}
    interval = math.ceil(length / 3) if dense else length
    phases = [_stretched(phase, length / inherited) for phase in parent.param_scheduler]
    settings: dict[str, Any] = dict(
        param_scheduler=[phase for phase in phases if phase.get('begin', 0) < phase['end']],
        train_cfg={key: length, 'val_interval': interval},
    )
    if dense:
        settings['default_hooks'] = dict(checkpoint=dict(interval=interval))
    return settings


def _stretched(phase: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """A phase of a schedule, longer or shorter."""
    return {
        key: round(value * factor) if key in ('begin', 'end') else value
        for key, value in phase.items()
    }
