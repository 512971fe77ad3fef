"""Backbones that a job can name: the base configs of this package, and the models of timm."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from mmengine.config import Config

from toast_mm.checkpoint import WEIGHTS
from toast_mm.engine.config import ConfigError, near_names, read_config
from toast_mm.models import TOASTConvNeXt, TOASTTimm

CONFIGS = Path(__file__).parents[1] / '.mim' / 'configs'
TASKS = ('classification', 'segmentation')
_PREFIX = {'classification': 'toast-', 'segmentation': 'upernet_toast-'}  # of names of base configs
# Side of the images of the bases that train within minutes on a CPU, in configs/cub25.
_SMALL = {'vit-1m-tinyin100': 64, 'convnext-1m-tinyin100': 64, 'efficientnet-lite0-in1k': 128}


@dataclass
class Base:
    """What a job needs to know of a backbone.

    Attributes:
        name: Short name of a base config, or a name of timm.
        config: Name of the base config in ``configs/_base_/models``.
        image_size: Side of the images that it is used with.
        small: Whether it trains within minutes on a CPU.
        tokens: Whether it has tokens, and not maps of stages.
        channels: Channels of its blocks or stages.
        patch: What sides of images must be a multiple of, if anything.
        model: Settings of the model that differ from the base config.
    """

    name: str
    config: str
    image_size: int
    small: bool
    tokens: bool
    channels: list[int]
    patch: int = 1
    model: dict[str, Any] = field(default_factory=dict)

    def pretuned(self, route: str) -> str | None:
        """A pre-tuned module with a route (``'last'`` or ``'early'``) that this package has."""
        start = self.name.rpartition('-')[0]
        files = WEIGHTS.glob(f'{start}_*_toast-{route}.safetensors') if start else iter(())
        return next((f'toast_mm://{file.name}' for file in files), None)


def base_names(task: str) -> list[str]:
    """Short names of the base configs for a task, which is one of ``TASKS``."""
    start = _PREFIX[task]
    files = (CONFIGS / '_base_' / 'models').glob(f'{start}*.py')
    return sorted(file.stem.removeprefix(start) for file in files)


def find_base(name: str, task: str) -> Base:
    """Find a backbone by the name of a base config, its beginning, or a name of timm.

    Raises:
        ConfigError: There is none, several begin like this, or it is not for this task.
    """
    wanted, names = name.lower().replace('_', '-'), base_names(task)
    found = [known for known in names if known == wanted] or [
        known for known in names if known.startswith(wanted)
    ]
    if len(found) == 1:
        return _shipped(found[0], task)
    if found:
        raise ConfigError(f'backbone={name!r} may be {" or ".join(found)}')
    if timm.is_model(name.partition('.')[0]):
        try:
            return _of_timm(name, task)
        except ValueError as error:
            raise ConfigError(f'backbone={name!r}: {error}') from error
    other = next(t for t in TASKS if t != task)
    if [known for known in base_names(other) if known.startswith(wanted)]:
        raise ConfigError(
            f'backbone={name!r} is for {other}; those for {task} are {", ".join(names)}, and the '
            'models of timm'
        )
    short = {known.rpartition('-')[0] for known in names}
    near = near_names(wanted, [*names, *short]) or near_names(name, timm.list_models())
    raise ConfigError(
        f'backbone={name!r} is none of {", ".join(names)}, and no model of timm{near}'
    )


@cache
def _shipped(name: str, task: str) -> Base:
    config = f'{_PREFIX[task]}{name}'
    model = read_config(str(CONFIGS / '_base_' / 'models' / f'{config}.py')).model
    backbone = model.backbone
    timm_name = backbone.get('model_name')
    facts = _facts(timm_name) if timm_name else None
    if facts:
        tokens, channels, patch = facts
    elif 'ViT' in backbone.type:
        head = model.get('head') or model.auxiliary_head
        tokens, channels, patch = True, [head.in_channels], 1
    else:
        tokens, patch = False, 1
        channels = _convnext_channels(backbone)
    size = _SMALL.get(name, 224)
    if task == 'segmentation':
        size = 96 if name in _SMALL else math.ceil(512 / patch) * patch
    return Base(name, config, size, name in _SMALL, tokens, channels, patch)


def _convnext_channels(backbone: Config) -> list[int]:
    arch = backbone.arch
    return list((TOASTConvNeXt.arch_settings[arch] if isinstance(arch, str) else arch)['channels'])


@cache
def _facts(name: str) -> tuple[bool, list[int], int]:
    """Whether a model of timm has tokens, the channels of its blocks, and its patch size."""
    with torch.device('meta'):
        backbone: Any = TOASTTimm(name, feedback_from=None, out_type='featmap')
    if backbone.tokens is None:
        return False, [info['num_chs'] for info in backbone.model.feature_info], 1
    return True, [backbone.model.embed_dim] * len(backbone.model.blocks), max(backbone.patch_size)


def _pooled_channels(name: str, side: int) -> int:
    """Channels of what a classifier takes, which a last convolution may have widened."""
    with torch.device('meta'):
        backbone = TOASTTimm(name, feedback_from=None, out_type='avg_featmap')
        return backbone(torch.zeros(1, 3, side, side))[-1].shape[1]


def _of_timm(name: str, task: str) -> Base:
    """A base config of another model of timm, with what differs for this one."""
    tokens, channels, patch = _facts(name)
    cfg = timm.get_pretrained_cfg(name)
    side = cfg.input_size[-1] if cfg else 224
    backbone: dict[str, Any] = dict(model_name=name, pretrained=True, init_cfg=None)
    model: dict[str, Any] = dict(data_preprocessor=dict(model_name=name), backbone=backbone)
    if task == 'classification':
        config = 'toast-vit-b14-dinov2' if tokens else 'toast-efficientnet-lite0-in1k'
        size = math.ceil(min(side, 224) / patch) * patch if tokens else side
        model['head'] = dict(in_channels=channels[-1] if tokens else _pooled_channels(name, side))
        with torch.device('meta'):
            if tokens and timm.create_model(name, num_classes=0).cls_token is None:
                backbone['out_type'] = 'avg_featmap'
    else:
        config = 'upernet_toast-vit-b14-dinov2' if tokens else 'upernet_toast-convnext-b-dinov3'
        size = math.ceil(512 / patch) * patch
        depth = len(channels)
        maps = [depth * part // 4 - 1 for part in range(1, 5)] if tokens else range(depth)[-4:]
        model['data_preprocessor'].update({'test_cfg': dict(size_divisor=patch)} if tokens else {})
        backbone['out_indices'] = list(maps)
        model['decode_head'] = dict(in_channels=[channels[index] for index in maps])
        model['auxiliary_head'] = dict(in_channels=channels[maps[-1 if tokens else -2]])
    return Base(name, config, size, False, tokens, channels, patch, model)
