"""Methods that a job can name: those of ``configs/fgvc``, with their settings there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from mmengine.config import Config

from toast_mm.engine.config import DATASET, ConfigError, near_names, read_config

from .bases import CONFIGS, Base

TOAST = 'toast'  # with the route of the base config
_VIT = '_vit-b16-in1k_1xb32-100e_fgvc-224x224.py'
_CONVNEXT = '_convnext-b-in1k_1xb32-100e_fgvc-224x224.py'
_DENSE_INCA = 'inca-vit-b16_8xb2-160k_ade20k-512x512.py'
# What a method sets of a backbone; all else is of the base.
_SETTINGS = ('feedback_from', 'feedback_to', 'tuning', 'lite', 'frozen')


def method_names() -> list[str]:
    """Names of all methods."""
    files = (CONFIGS / 'fgvc').glob(f'*{_VIT}')
    return sorted([TOAST, *(file.name.removesuffix(_VIT) for file in files)])


def check_method(name: str) -> None:
    """Check that there is a method.

    Raises:
        ConfigError: There is none of this name; the message has similar names.
    """
    names = method_names()
    if name not in names:
        near = near_names(name, names)
        raise ConfigError(f'method={name!r} is none of {", ".join(names)}{near}')


def method_model(
    name: str, base: Base, model: Config, task: str, pretuned: str | None = None
) -> dict[str, Any]:
    """Settings by which a method differs from the model of a base config.

    Args:
        name: Name of the method.
        base: The backbone.
        model: Its model.
        task: One of ``TASKS``.
        pretuned: A pre-tuned top-down module; None takes one of this package, if there is one.

    Raises:
        ConfigError: The method needs a pre-tuned module, and there is none.
    """
    check_method(name)
    backbone: dict[str, Any] = {}
    if name != TOAST:
        theirs = _published(name).model.backbone
        backbone = {
            key: value
            for key in _SETTINGS
            if (value := theirs.get(key, _DEFAULTS[key])) != model.backbone.get(key, _DEFAULTS[key])
        }
    route = {**model.backbone, **backbone}
    if route['feedback_from'] is not None:
        backbone['pretuned'] = pretuned or _shipped_module(base, route)
        if backbone['pretuned'] is None:
            if route.get('lite'):
                raise ConfigError(
                    f'method={name!r} updates a pre-tuned top-down module, and {base.name} comes '
                    'with none: name one by pretuned'
                )
            del backbone['pretuned']
    elif pretuned:
        raise ConfigError(
            f'pretuned={pretuned!r} is for toast, but method={name!r} has no feedback'
        )
    settings: dict[str, Any] = dict(backbone=backbone) if backbone else {}
    if name == 'inca':
        _add_inca(settings, base, model, task)
    return settings


def method_optimizer(name: str) -> dict[str, Any]:
    """The published optimizer of a method, for batches of 32 images and 100 epochs."""
    return _published('toast-last' if name == TOAST else name).optim_wrapper.optimizer.to_dict()


def is_steered(name: str) -> bool:
    """Whether a method has a top-down module."""
    return name.startswith(TOAST)


_DEFAULTS: dict[str, Any] = dict(
    feedback_from='last', feedback_to='first', tuning=None, lite=None, frozen=True
)


@cache
def _published(name: str, end: str = _VIT) -> Config:
    with _no_data_set_named():
        return read_config(str(CONFIGS / 'fgvc' / f'{name}{end}'))


@contextmanager
def _no_data_set_named() -> Iterator[None]:
    """Read configs for several data sets with their default, whatever the environment says."""
    named = os.environ.pop(DATASET, None)
    try:
        yield
    finally:
        if named is not None:
            os.environ[DATASET] = named


def _shipped_module(base: Base, route: dict[str, Any]) -> str | None:
    if route.get('feedback_to', 'first') != 'first':
        return None
    return base.pretuned({'last': 'last', 'middle': 'early'}[route['feedback_from']])


def _add_inca(settings: dict[str, Any], base: Base, model: Config, task: str) -> None:
    """Replace the head by InCA's, and let the backbone give what it takes."""
    if task == 'segmentation':
        dense = read_config(str(CONFIGS / 'ade20k' / _DENSE_INCA)).model.decode_head.to_dict()
        maps = base.model.get('decode_head', model.decode_head)['in_channels']
        settings['decode_head'] = {'_delete_': True, **dense, 'in_channels': list(maps)}
        settings['auxiliary_head'] = None
        return
    settings['head'] = dict(
        _delete_=True,
        **_published('inca', _VIT if base.tokens else _CONVNEXT).model.head.to_dict(),
    )
    if base.tokens:
        settings['backbone'].update(out_type='raw', out_indices=[-4, -3, -2, -1])
        settings['head']['in_channels'] = base.channels[-1]
        return
    stages = range(len(base.channels))[-4:]
    settings['head']['in_channels'] = [base.channels[index] for index in stages]
    settings['backbone']['out_indices'] = list(stages)
    if model.backbone.type == 'toast_mm.TOASTTimm':
        settings['backbone']['out_type'] = 'featmap'
    else:
        settings['backbone']['gap_before_final_norm'] = False
