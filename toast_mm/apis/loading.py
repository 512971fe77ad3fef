"""From a config or task file to a predictor."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any, TypeAlias, overload

import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.runner import CheckpointLoader

from toast_mm.apis.predictor import Predictor
from toast_mm.apis.tasks import Tasks
from toast_mm.arguments import check_call
from toast_mm.engine.config import ConfigError, read_config
from toast_mm.engine.explain import explained
from toast_mm.engine.model import build_model, load_weights
from toast_mm.engine.task_config import config_in

CONFIGS = ('.py', '.json', '.yaml', '.yml')
Source: TypeAlias = str | os.PathLike[str] | Config
Device: TypeAlias = str | torch.device


@overload
def load(
    config_or_task_file: Source,
    checkpoint: str | os.PathLike[str] | None = None,
    device: Device | None = None,
) -> Predictor: ...


@overload
def load(
    config_or_task_file: Mapping[str, Any], checkpoint: None = None, device: Device | None = None
) -> Tasks: ...


@check_call
def load(
    config_or_task_file: str | os.PathLike[str] | Config | Mapping[str, Any],
    checkpoint: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
) -> Predictor | Tasks:
    """Load a classifier or segmentor for predictions; or several, by name.

    A checkpoint of a training and a file of ``publish_model.py`` hold their config, so they can be
    given alone. That config is read as data and may name only parts of mmpretrain, mmseg and
    toast_mm (``docs/security.md``). A config that you name may run, and may name anything.

    Args:
        config_or_task_file: A task file or another checkpoint (``.pth`` or ``.safetensors``, a
            path, URL, or ``hf://...``); or a config: a path, ``'toast_mm::folder/name.py'`` or a
            ``Config``. A mapping of names to these, or to pairs of config and checkpoint, loads
            several tasks on one base.
        checkpoint: Task file or checkpoint, if a config is given. Defaults to None: the weights
            that the model index of the package names for a config ``'toast_mm::...'``.
        device: Such as ``'cuda:1'``. Defaults to None: the GPU if there is one, else the CPU.

    Returns:
        A :class:`Predictor`; of a mapping, :class:`Tasks`.

    Raises:
        CheckpointError: The file is no checkpoint, does not fit the config, or its base is missing.
        ConfigError: The config cannot be read or built, or lacks its checkpoint.
        FileNotFoundError: There is no such checkpoint.
        TypeError: An argument is of another type.
        ValueError: The model is neither a classifier nor a segmentor; tasks have other bases; or
            there is no such device.

    Example:
        >>> birds = load('birds.safetensors')
        >>> scenes = load('configs/camvid.py', 'work_dirs/camvid/iter_600.pth', device='cpu')
        >>> tasks = load({'birds': 'birds.safetensors', 'cars': ('cars.py', 'cars.pth')})
    """
    if isinstance(config_or_task_file, Mapping):
        return Tasks(
            {name: _load_pair(name, of, device) for name, of in config_or_task_file.items()}
        )
    device = _usable(device)
    cfg = _named_config(config_or_task_file)
    if cfg is None and checkpoint is not None:
        raise ConfigError(f'{config_or_task_file} is no config: its name must end in .py')
    file = os.fspath(checkpoint or (config_or_task_file if cfg is None else _weights_of(cfg)))
    content = CheckpointLoader.load_checkpoint(file, 'cpu', logger='silent')
    meta = content.get('meta') or {}
    if cfg is None:
        cfg = config_in(meta, file)
    with explained(cfg):
        model = build_model(cfg)
    load_weights(model, content, file)
    model.to(device)
    return Predictor(model.eval(), cfg, meta.get('dataset_meta'), file)


def _usable(device: Device | None) -> Device:
    """The device, or the one that is used by default.

    Raises:
        ValueError: There is no such device.
    """
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter of a PyTorch without CUDA
        raise ValueError(f'device={str(device)!r} cannot be used: {error}') from error
    return device


def _load_pair(name: str, source: Any, device: Device | None) -> Predictor:
    """Load a task of a mapping: a file, or a pair of config and checkpoint."""
    pair = source if isinstance(source, (tuple, list)) else (source, None)
    if len(pair) != 2:
        raise ConfigError(f'task {name!r}: {source!r} is no pair of config and checkpoint')
    config, checkpoint = pair
    return load(config, checkpoint, device)


def _named_config(source: Source) -> Config | None:
    """The config that the caller names; None if it is a checkpoint."""
    if isinstance(source, Config):
        return copy.deepcopy(source)
    name = os.fspath(source)
    if '::' not in name:
        return read_config(name) if name.endswith(CONFIGS) else None
    try:
        return get_config(name, pretrained=True)  # with the weights that the model index names
    except (AssertionError, FileNotFoundError, ValueError) as error:
        if 'Cannot find `Weights`' in str(error):
            return get_config(name)
        raise ConfigError(f'{name} names no config: {error}') from error


def _weights_of(cfg: Config) -> str:
    """Weights that the model index names for a config.

    Raises:
        ConfigError: It names none.
    """
    if not cfg.get('model_path'):
        raise ConfigError(
            f'{cfg.filename or "the config"} needs a checkpoint: load(CONFIG, CHECKPOINT)'
        )
    return cfg.model_path
