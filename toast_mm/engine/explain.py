"""Explaining errors of other packages by the setting that causes them."""

from __future__ import annotations

import dis
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import Registry
from torch import nn

from toast_mm.checkpoint import CheckpointError
from toast_mm.engine.config import ConfigError, near_names
from toast_mm.files import WriteError

# Errors whose messages are clear already.
_SENTENCES = (CheckpointError, ConfigError, WriteError)

# Advice for messages of other packages that do not say what to do.
_ADVICE = {
    'Expected more than 1 value per channel': 'batch normalisation needs more than one value per '
    'channel: train_dataloader.batch_size must be at least 2, or norm_cfg another norm, such as '
    "dict(type='GN', num_groups=8)",
    '`mean` should have 1 or 3 values': "mmseg's SegDataPreProcessor takes one or three bands: use "
    'toast_mm.BandSegDataPreProcessor',
    'cn <= 4 in function': "interpolation='area' takes at most 4 bands: use 'bilinear'",
    '_src.channels() <= 4': "interpolation='bicubic' warps at most 4 bands: use 'bilinear'",
    "Scalar value for argument 'value' is longer than 4": 'OpenCV pads at most 4 bands: pad by the '
    'size and pad_val of toast_mm.BandSegDataPreProcessor',
}


@contextmanager
def explained(cfg: Config) -> Iterator[None]:
    """Turn errors inside into errors that name the part of the config that caused them.

    mmengine and packages that use it raise low-level errors such as ``'int' object is not
    iterable``. The stack frames of the error show which part of the config was being built, or
    which layer was running.

    Args:
        cfg: The config that is built or run inside.

    Raises:
        ConfigError: Names the part of the config, its settings and the cause.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, _SENTENCES) or _raised_by_us(error) or _names_file(error):
            raise
        raise ConfigError(_sentence(cfg, error)) from error


def _raised_by_us(error: Exception) -> bool:
    """Whether a ``raise`` of this package raised the error, so that its message is clear."""
    last = _steps(error)[-1]
    frame = last.tb_frame
    raised = frame.f_code.co_code[last.tb_lasti] == dis.opmap['RAISE_VARARGS']
    return raised and str(frame.f_globals.get('__name__', '')).startswith('toast_mm')


def _names_file(error: Exception) -> bool:
    """Whether an error names its file, and no part of the config was being built."""
    building = any(step.tb_frame.f_code.co_name == 'build_from_cfg' for step in _steps(error))
    return isinstance(error, OSError) and error.filename is not None and not building


def _steps(error: Exception) -> list[TracebackType]:
    steps, step = [], error.__traceback__
    while step is not None:
        steps.append(step)
        step = step.tb_next
    return steps


def _sentence(cfg: Config, error: Exception) -> str:
    frames = [step.tb_frame for step in _steps(error)]
    why = ' '.join(traceback.format_exception_only(error)[-1].split())
    why = next((advice for known, advice in _ADVICE.items() if known in why), why)
    for frame in reversed(frames):
        if frame.f_code.co_name == 'build_from_cfg':
            return _of_part(cfg, frame, why)
    layer = _layer(frames)
    if layer is not None:
        name, module = layer
        return f'model.{name} ({type(module).__name__}): {why}{_settings(_part_of(cfg, name))}'
    step = _step(frames)
    return f'{step}: {why}' if step else why.removeprefix('ValueError: ')


def _part_of(cfg: Config, name: str) -> Mapping[str, Any]:
    """Config of a layer of the model, or of the part that the layer belongs to."""
    part: Any = cfg.get('model')
    for word in name.split('.'):
        if not isinstance(part, Mapping) or not isinstance(part.get(word), Mapping):
            break
        part = part[word]
    return part if isinstance(part, Mapping) else {}


def _settings(part: Mapping[str, Any]) -> str:
    settings = [f'{k}={v!r}' for k, v in part.items() if k != 'type' and len(repr(v)) < 80]
    return f'; its settings are {", ".join(settings)}' if settings else ''


def _of_part(cfg: Config, frame: FrameType, why: str) -> str:
    """Describe an error while mmengine built a part of the config."""
    values = frame.f_locals
    part = values['cfg']
    key = next(_keys(cfg, part), None)
    if not isinstance(part, Mapping):
        return f'{part!r} must be a dict with type=... and the settings of a part'
    kind = values.get('obj_type', part.get('type'))
    if ('obj_type' in values and 'obj_cls' not in values) or values.get('obj_cls', ...) is None:
        scope = f' in _scope_={part["_scope_"]!r}' if '_scope_' in part else ''
        unknown = _unknown(values['registry'], kind)
        return f'{f"{key}.type" if key else "type"}={kind!r}{scope} {unknown}'
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', kind)
    place = f'{key} ({name})' if key else str(name)
    return f'{place} cannot be built: {why}{_settings(part)}'


def _unknown(registry: Registry, kind: Any) -> str:
    """Say that a registry does not know a name, with similar names that it knows."""
    names = {name for known in _family(registry.root) for name in known.module_dict}
    near = near_names(str(kind).rpartition('.')[-1], names)
    return f'names no registered {registry.name}{near}'


def _family(registry: Registry) -> Iterator[Registry]:
    yield registry
    for child in registry.children.values():
        yield from _family(child)


def _keys(value: Any, part: Any, key: str = '') -> Iterator[str]:
    """Dotted keys of a config whose value equals a part."""
    if key and isinstance(value, Mapping) and value == part:
        yield key
    items: Any = ()
    if isinstance(value, (Config, Mapping)):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    for name, below in items:
        yield from _keys(below, part, f'{key}.{name}' if key else str(name))


def _step(frames: Sequence[FrameType]) -> str | None:
    """Class and settings of the innermost transform, hook or metric that was running."""
    for frame in reversed(frames):
        running = frame.f_locals.get('self')
        if isinstance(running, (BaseTransform, Hook, BaseMetric)):
            values = {k: v for k, v in vars(running).items() if len(repr(v)) < 80}
            settings = ', '.join(f'{name}={value!r}' for name, value in values.items())
            return f'{type(running).__name__} with {settings}' if settings else None
    return None


def _layer(frames: Sequence[FrameType]) -> tuple[str, nn.Module] | None:
    """Name and module of the innermost layer of the model that was running."""
    modules = [frame.f_locals.get('self') for frame in frames]
    running = [module for module in modules if isinstance(module, nn.Module)]
    for module in reversed(running):
        for name, candidate in running[0].named_modules():
            if candidate is module and name:
                return name, module
    return None
