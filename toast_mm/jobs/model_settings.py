"""Settings of the model of a job that differ from the base config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from .bases import Base
from .choices import Choices
from .methods import method_model
from .own_data import OwnData


def model_settings(
    base: Base,
    parent: Config,
    method: str,
    data: OwnData,
    size: int,
    choices: Choices,
) -> dict[str, Any]:
    """Settings of the model that differ from the base config."""
    model = _merged(
        base.model, method_model(method, base, parent.model, data.task, choices.pretuned)
    )
    classes = len(data.classes)
    if choices.checkpoint is not None:
        path = choices.checkpoint
        init = dict(checkpoint=path if '://' in path else os.path.abspath(path))
        if not parent.model.backbone.get('init_cfg') or base.model:
            init = dict(type='Pretrained', **init)
        backbone: dict[str, Any] = dict(init_cfg=init)
        if parent.model.backbone.get('pretrained') or base.model:
            backbone['pretrained'] = False
        model = _merged(model, dict(backbone=backbone))
    if data.task == 'classification':
        if 'img_size' in parent.model.backbone and parent.model.backbone.img_size != size:
            model = _merged(model, dict(backbone=dict(img_size=size)))
        return _merged(
            dict(data_preprocessor=dict(num_classes=classes)),
            model,
            dict(head=dict(num_classes=classes)),
        )
    head: dict[str, Any] = dict(num_classes=classes)
    if base.small and method != 'inca':
        head['channels'] = 64  # as for CamVid
    heads = ['decode_head'] + ['auxiliary_head'] * (method != 'inca')
    return _merged(
        dict(data_preprocessor=dict(size=(size, size))), model, dict.fromkeys(heads, head)
    )


def _merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts, later ones over earlier ones."""
    result: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            old = result.get(key)
            if isinstance(old, Mapping) and isinstance(value, Mapping):
                value = _merged(old, value)
            result[key] = value
    return result
