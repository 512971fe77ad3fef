"""The part of a config that inference needs, and reading it from a checkpoint without running it.

A config names classes by text, and mmengine imports whatever that text says. So a config that comes
with a file may only name the classes of mm that a model and its test pipeline consist of.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, TASK_UTILS, TRANSFORMS, WEIGHT_INITIALIZERS, Registry

from toast_mm.checkpoint.adapter import Record
from toast_mm.config_text import read_settings
from toast_mm.engine.config import ConfigError
from toast_mm.registry import SCOPE, type_name
from toast_mm.trust import WAY_OUT, is_trusted

SCOPES = ('mmengine', 'mmcv', 'mmpretrain', 'mmseg', SCOPE)
_PACKAGES = 'mmpretrain, mmseg or toast_mm'
# Modules whose registered classes run nothing but themselves, whatever their arguments.
MODULES = (
    *('toast_mm.models.', 'mmseg.models.', 'mmcv.cnn.', 'mmengine.model.', 'torch.nn.'),
    'mmengine.utils.dl_utils.parrots_wrapper',  # SyncBN
    *('mmpretrain.models.backbones.', 'mmpretrain.models.classifiers.image'),
    *('mmpretrain.models.heads.', 'mmpretrain.models.losses.', 'mmpretrain.models.necks.'),
    *('mmpretrain.models.utils.data_preprocessor', 'mmpretrain.models.utils.batch_augments'),
    *('mmpretrain.models.utils.norm', 'mmpretrain.models.utils.layer_scale'),
)
# Others evaluate their arguments, such as `torchvision/ConvertImageDtype`.
STEPS = (
    *('LoadImageFromFile', 'LoadBandsFromFile', 'LoadAnnotations', 'PackInputs', 'PackSegInputs'),
    *('Resize', 'ResizeEdge', 'ResizeShortestEdge', 'ResizeToMultiple', 'CenterCrop', 'Pad'),
    *('Normalize', 'RandomFlip', 'CLAHE', 'AdjustGamma', 'RGB2Gray', 'Rerange', 'SeedAugmentation'),
)


def image_pipeline(cfg: Mapping[str, Any]) -> list[dict]:
    """Transforms of the test data, without those that load labels.

    Raises:
        ConfigError: The config has none.
    """
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    while 'pipeline' not in dataset and isinstance(dataset.get('dataset'), Mapping):
        dataset = dataset['dataset']  # of a wrapper
    if not dataset.get('pipeline'):
        raise ConfigError(
            'the config has no test_dataloader.dataset.pipeline, which says how images are prepared'
        )
    return [step for step in dataset['pipeline'] if type_name(step) != 'LoadAnnotations']


def inference_config(cfg: Mapping[str, Any]) -> Config:
    """Copy what inference needs of a config: model, preprocessing and the test pipeline.

    Raises:
        ConfigError: The config has no model or no test pipeline.
    """
    if not cfg.get('model'):
        raise ConfigError('the config has no model')
    kept = {k: cfg[k] for k in ('default_scope', 'model', 'data_preprocessor') if cfg.get(k)}
    kept['test_dataloader'] = dict(dataset=dict(pipeline=image_pipeline(cfg)))
    kept = copy.deepcopy(kept)
    kept['model'].pop('train_cfg', None)
    return Config(kept, format_python_code=False)


def config_in(meta: Any, name: str) -> Config:
    """Read the config in the metadata of a checkpoint, as data.

    Inside :func:`toast_mm.checkpoint.trusted` it may name any class, like a config file.

    Args:
        meta: Metadata of the checkpoint; ``meta['cfg']`` is the text of its config.
        name: Name of the file, for errors.

    Raises:
        ConfigError: It has no config, or one that cannot be used; the message advises to name one.
    """
    text = meta.get('cfg') if isinstance(meta, Mapping) else None
    if not isinstance(text, str):
        raise ConfigError(f'{name} holds no config: name the config of its training as well')
    try:
        if is_trusted():
            return inference_config(Config.fromstring(text, '.py'))
        cfg = inference_config(read_settings(text))
        scope = cfg.get('default_scope', 'mmengine')
        if scope not in SCOPES:
            raise ConfigError(f'default_scope={scope!r} is none of {", ".join(SCOPES)}')
        _check_names(cfg)
    except ConfigError as error:
        raise ConfigError(
            f'the config in {name} cannot be used: {error}. Name the config of its training '
            f'as well; or {WAY_OUT}'
        ) from error
    return cfg


def config_for_release(meta: Mapping[str, Any], record: Record | None) -> str:
    """Text of the config to put into a file for release: what inference needs, without paths.

    Args:
        meta: Metadata of the checkpoint.
        record: The record of a task file, which says where base and pre-tuned module are; None for
            a checkpoint of all weights.

    Raises:
        ConfigError: The checkpoint holds no config, or one without model or test pipeline.
    """
    if not isinstance(meta.get('cfg'), str):
        raise ConfigError('it holds no config')
    cfg = inference_config(read_settings(meta['cfg']))
    for part in (cfg.model, cfg.model.get('backbone') or {}):
        for key in ('init_cfg', 'pretrained', 'pretuned'):
            part.pop(key, None)
    if record is not None and record['pretuned']:
        cfg.model.backbone.pretuned = record['pretuned']
    return cfg.dump()


def _check_names(cfg: Config) -> None:
    """Check that a config names only classes that run no code of others."""
    for key in ('model', 'data_preprocessor'):
        for place, name in _names(cfg.get(key), key):
            if not any(
                str(found.__module__).startswith(MODULES)
                for registry in (MODELS, WEIGHT_INITIALIZERS, TASK_UTILS)
                for found in _registered(name, registry)
            ):
                raise ConfigError(f'{place}={name!r} is no part of a model of {_PACKAGES}')
    for place, name in _names(image_pipeline(cfg), 'pipeline'):
        if name.rpartition('.')[-1] not in STEPS or not _registered(name, TRANSFORMS):
            raise ConfigError(f'{place}={name!r} is none of {", ".join(STEPS)}')


def _names(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield the names of classes in a part of a config, each after its dotted key."""
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
        if value.get('_scope_', SCOPE) not in SCOPES:
            yield f'{key}._scope_', f'{value["_scope_"]}.'
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    for name, below in items:
        names_class = name == 'type' or (str(name).endswith('_type') and '.' in str(below))
        if names_class and isinstance(below, str):
            yield f'{key}.{name}', below
        yield from _names(below, f'{key}.{name}')


def _registered(name: str, registry: Registry) -> list[Any]:
    """Everything that a registry and its children know by a name, with or without its module."""
    package, dot, name = name.rpartition('.')
    if dot and package.split('.')[0] not in SCOPES:
        return []
    family = [registry, *registry.children.values()]
    for member in family:
        member.import_from_location()
    return [member.module_dict[name] for member in family if name in member.module_dict]
