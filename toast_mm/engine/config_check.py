"""Checking the settings of a config before anything is built."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    METRICS,
    MODELS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    DefaultScope,
    Registry,
)

from toast_mm.engine.config import ConfigError
from toast_mm.registry import type_name

# Types of settings, as mmengine and this package read them.
_SECTIONS: dict[str, tuple[type | None, ...]] = {
    'model': (dict,),
    'model.backbone': (dict,),
    'model.backbone.drop_path_rate': (float,),
    'model.backbone.in_channels': (int,),
    'model.data_preprocessor': (dict, None),
    'model.data_preprocessor.num_classes': (int, None),
    'model.data_preprocessor.seg_pad_val': (int,),
    # mmpretrain's preprocessor does not annotate it.
    'model.data_preprocessor.to_rgb': (bool, None),
    'model.head': (dict, None),
    'model.neck': (dict, list, None),
    'model.decode_head': (dict, list),
    'model.auxiliary_head': (dict, list, None),
    'model.train_cfg': (dict, None),
    'model.test_cfg': (dict, None),
    'data_preprocessor': (dict, None),
    'optim_wrapper': (dict, None),
    'optim_wrapper.optimizer': (dict,),
    'optim_wrapper.optimizer.lr': (float,),
    'optim_wrapper.optimizer.weight_decay': (float,),
    'optim_wrapper.accumulative_counts': (int,),
    'optim_wrapper.clip_grad': (dict, None),
    'optim_wrapper.clip_grad.max_norm': (float,),
    'optim_wrapper.paramwise_cfg': (dict, None),
    'optim_wrapper.paramwise_cfg.norm_decay_mult': (float, None),
    'optim_wrapper.paramwise_cfg.bias_lr_mult': (float, None),
    'optim_wrapper.paramwise_cfg.bias_decay_mult': (float, None),
    'train_cfg.by_epoch': (bool,),
    'train_cfg.max_epochs': (int,),
    'train_cfg.max_iters': (int,),
    'train_cfg.val_interval': (int,),
    'param_scheduler': (list, dict, None),
    'default_hooks': (dict, None),
    'default_hooks.checkpoint.interval': (int,),
    'default_hooks.checkpoint.max_keep_ckpts': (int,),
    'default_hooks.logger.interval': (int,),
    'custom_hooks': (list, None),
    'randomness': (dict,),
    'randomness.seed': (int, None),
    'env_cfg': (dict,),
    'env_cfg.dist_cfg': (dict,),
    'env_cfg.mp_cfg': (dict,),
    'auto_scale_lr': (dict, None),
    'auto_scale_lr.base_batch_size': (int,),
    'log_level': (str, int),
    'log_processor': (dict, None),
    'visualizer': (dict, None),
    'work_dir': (str,),
    'load_from': (str, None),
    'resume': (bool,),
    'first_pass_cache': (bool, dict, None),
    'task_files': (bool, None),
    'channels_last': (bool, None),
    'compile': (bool, dict, None),
    **{
        key.format(mode): kinds
        for mode in ('train', 'val', 'test')
        for key, kinds in {
            '{}_cfg': (dict, None),
            '{}_dataloader': (dict, None),
            '{}_dataloader.dataset': (dict,),
            '{}_dataloader.sampler': (dict, None),
            '{}_dataloader.sampler.shuffle': (bool,),
            '{}_dataloader.batch_size': (int,),
            '{}_dataloader.num_workers': (int,),
            '{}_evaluator': (dict, list, None),
        }.items()
    },
}
_LOWEST = {
    'randomness.seed': 0,
    'model.backbone.drop_path_rate': 0,
    'model.backbone.in_channels': 1,
    'auto_scale_lr.base_batch_size': 1,
    'optim_wrapper.accumulative_counts': 1,
    'optim_wrapper.optimizer.lr': 0,
    'optim_wrapper.optimizer.weight_decay': 0,
    'train_cfg.max_epochs': 1,
    'train_cfg.max_iters': 1,
    'train_cfg.val_interval': 1,
    **{f'{mode}_dataloader.batch_size': 1 for mode in ('train', 'val', 'test')},
    **{f'{mode}_dataloader.num_workers': 0 for mode in ('train', 'val', 'test')},
}
_WORDS = {
    dict: 'dict(...)',
    list: '[...]',
    bool: 'True or False',
    int: 'an integer',
    float: 'a number',
    str: 'a text',
}


def check_config(cfg: Any) -> None:
    """Check the sections of a config and the types of arguments.

    Raises:
        ConfigError: A setting is wrong; the message names the key, its value and what it must be.
    """
    for key, kinds in _SECTIONS.items():
        value: Any = cfg
        for part in key.split('.'):
            if not isinstance(value, (Config, Mapping)) or part not in value:
                break
            value = value[part]
        else:
            _check_kind(key, value, kinds)
    for name, hook in (cfg.get('default_hooks') or {}).items():
        _check_kind(f'default_hooks.{name}', hook, (dict, None))
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
        check_kinds(cfg)
    _check_model(cfg.get('model') or {})
    level = cfg.get('log_level')
    if isinstance(level, str) and not isinstance(logging.getLevelName(level), int):
        raise ConfigError(f"log_level={level!r} must be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'")
    for key, lowest in _LOWEST.items():
        value = _setting(cfg, key)
        if value is not None and value < lowest:
            raise ConfigError(f'{key}={value} must be at least {lowest}')
    _check_parts(cfg)


def _check_parts(cfg: Any) -> None:
    """Check that the parts are there that mmengine takes for granted."""
    for mode in ('train', 'val', 'test'):
        loader = cfg.get(f'{mode}_dataloader')
        if isinstance(loader, Mapping) and loader.get('dataset') is None:
            raise ConfigError(f'{mode}_dataloader has no dataset')
    if cfg.get('optim_wrapper') == {}:
        raise ConfigError('optim_wrapper is empty: it needs optimizer=dict(type=..., lr=...)')


def _check_model(model: Mapping[str, Any]) -> None:
    """Check settings of a model that must fit together."""
    test_cfg = model.get('test_cfg') or {}
    if test_cfg.get('mode') == 'slide' and not {'crop_size', 'stride'} <= test_cfg.keys():
        raise ConfigError(
            f'model.test_cfg={dict(test_cfg)} tests in sliding windows and needs their size and '
            'stride: crop_size=(H, W) and stride=(H, W)'
        )
    out_type = model['backbone'].get('out_type') if 'backbone' in model else None
    linear = type_name(model.get('head') or {}) in ('LinearClsHead', 'VisionTransformerClsHead')
    if linear and out_type in ('raw', 'featmap') and not model.get('neck'):
        raise ConfigError(
            f"model.backbone.out_type={out_type!r} gives the head all tokens, but a classifier's "
            "head needs one vector per image: out_type='cls_token' or 'avg_featmap', or a neck"
        )
    for name in ('decode_head', 'auxiliary_head'):
        heads = model.get(name) or []
        for head in heads if isinstance(heads, (list, tuple)) else [heads]:
            index, channels = head.get('in_index'), head.get('in_channels')
            one, other = (len(x) if isinstance(x, (list, tuple)) else 0 for x in (index, channels))
            if 'in_index' in head and 'in_channels' in head and one != other:
                raise ConfigError(
                    f'model.{name}.in_index={index} and in_channels={channels} must have the same '
                    'length'
                )


def _setting(cfg: Any, key: str) -> Any:
    """Value of a dotted key; None if the config does not have it."""
    for part in key.split('.'):
        if not isinstance(cfg, (Config, Mapping)) or part not in cfg:
            return None
        cfg = cfg[part]
    return cfg


def _check_kind(key: str, value: Any, kinds: Sequence[type | None]) -> None:
    plain = [kind for kind in kinds if kind is not None]
    accepted = (*plain, int) if float in plain else tuple(plain)
    if value is None:
        fits = None in kinds
    else:  # Python treats True as an integer
        fits = isinstance(value, accepted) and (bool in plain or not isinstance(value, bool))
    if fits:
        return
    wanted = ' or '.join(_WORDS[kind] for kind in plain) + ' or None' * (None in kinds)
    raise ConfigError(f'{key}={value!r} must be {wanted}')


# Registry of a part of a config, by the last word of its key that is listed here.
_REGISTRIES = {
    'model': MODELS,
    'dataset': DATASETS,
    'pipeline': TRANSFORMS,
    'sampler': DATA_SAMPLERS,
    'default_hooks': HOOKS,
    'custom_hooks': HOOKS,
    'val_evaluator': METRICS,
    'test_evaluator': METRICS,
    'param_scheduler': PARAM_SCHEDULERS,
}


def check_kinds(cfg: Any, key: str = '', registry: Registry | None = None) -> None:
    """Check that values have the type that a class, of any package, takes.

    A command line turns everything that it cannot parse into text, such as ``by_epoch=maybe``.
    Such text, or a number in place of True or False, would count as True or fail hours later. But
    annotations of other packages are often wrong about dicts, lists and numbers: about one in
    twenty of those that their own configs use. So this only checks annotations that leave no doubt,
    and only for values that none of these configs has there.

    Raises:
        ConfigError: A value is wrong; the message names the key, its value and what the class
            takes.
    """
    items: Any = ()
    if isinstance(cfg, (Config, Mapping)):
        items = cfg.items()
        kind = cfg.get('type')
        cls = kind
        if registry is not None and isinstance(kind, str) and kind:
            with registry.switch_scope_and_registry(None) as current:
                cls = current.get(kind)
        for taker in (cls, _inner(cls, cfg)):
            if inspect.isclass(taker):
                _check_arguments_of(taker, key, cfg)
    elif isinstance(cfg, (list, tuple)):
        items = enumerate(cfg)
    for name, value in items:
        below = _REGISTRIES.get(str(name), registry)
        check_kinds(value, f'{key}.{name}' if key else str(name), below)


def _inner(cls: Any, part: Mapping[str, Any]) -> Any:
    """The class that gets the other arguments of ``RandomResize`` and similar transforms."""
    parameters = inspect.signature(cls).parameters if inspect.isclass(cls) else {}
    if 'resize_type' not in parameters:
        return None
    kind = part.get('resize_type', parameters['resize_type'].default)
    return TRANSFORMS.get(kind) if isinstance(kind, str) else kind


def _check_arguments_of(cls: type, key: str, part: Mapping[str, Any]) -> None:
    seen = set()
    for base in inspect.getmro(cls)[:-1]:
        init = vars(base).get('__init__')
        if not inspect.isfunction(init):
            continue
        for name, parameter in inspect.signature(init).parameters.items():
            if name not in part or name in seen:  # a class may accept more than its base
                continue
            seen.add(name)
            kind, value = _plain_kind(parameter), part[name]
            if kind is not None and _is_no(kind, value) and not _is_no(kind, parameter.default):
                raise ConfigError(f'{key}.{name}={value!r} must be {_WORDS[kind]}')


def _plain_kind(parameter: inspect.Parameter) -> type | None:
    """Certain type of an argument, from its annotation or, without one, from its default."""
    annotation, default = parameter.annotation, parameter.default
    if annotation is not parameter.empty:
        return _PLAIN.get(annotation if isinstance(annotation, str) else str(annotation))
    return type(default) if type(default) in _WORDS and not isinstance(default, str) else None


def _is_no(kind: type, value: Any) -> bool:
    """Whether a value cannot be of a type, even if the class converts it."""
    if isinstance(value, bool):
        return kind in (dict, list)
    if isinstance(value, (int, float)):
        return kind in (bool, dict, list)
    return isinstance(value, str)


_PLAIN = {
    text.format(kind.__name__): kind
    for kind in _WORDS
    if kind is not str
    for text in ('{}', "<class '{}'>", 'typing.Optional[{}]', 'Optional[{}]', '{} | None')
}
