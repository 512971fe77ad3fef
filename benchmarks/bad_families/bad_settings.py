"""Wrong settings, made from those of a config with a fixed seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

# Wrong settings of other packages that raise no error; none of ours is among them.
OURS = ('model.backbone.', 'first_pass_cache', 'task_files', 'channels_last')
# Wrong values by type: another type, sign, length or name.
WRONG: dict[type, list[Any]] = {
    bool: ['maybe', 3],
    int: ['abc', -1, 0, 2.5, [1, 2], None],
    float: ['abc', -1.0, [1], None],
    str: ['nothing', 5, ''],
    list: ['abc', [], 5],
    dict: ['abc', 4],
    type(None): ['abc', 4, dict(nothing=1)],
}
# Arguments of our backbones and Runner that a config may leave out.
ABSENT = {
    'model.backbone.feedback_from': 'last',
    'model.backbone.feedback_to': 'first',
    'model.backbone.token_selection': True,
    'model.backbone.channel_selection': True,
    'model.backbone.tune_channel_transform': True,
    'model.backbone.feedback_gain': 0.5,
    'model.backbone.lite': dict(rank=4),
    'model.backbone.lite.rank': 4,
    'model.backbone.lite.alpha': 1.0,
    'model.backbone.tuning': dict(type='toast_mm.LoRA'),
    'model.backbone.pretuned': None,
    'model.backbone.frozen': True,
    'model.backbone.out_indices': [1],
    'model.backbone.out_type': 'cls_token',
    'model.backbone.drop_path_rate': 0.1,
    'model.backbone.init_cfg': None,
    'first_pass_cache': True,
    'task_files': True,
    'channels_last': True,
    'load_from': None,
}


def bad_settings(cfg: Mapping[str, Any], number: int, seed: int = 0) -> list[tuple[str, Any]]:
    """Keys of a job, each with a value that is wrong in kind, sign, length or name."""
    sections = (
        *('model', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'train_dataloader'),
        *('val_dataloader', 'val_evaluator', 'default_hooks', 'custom_hooks', 'randomness'),
    )
    known = {**ABSENT, **dict(_leaves({key: cfg[key] for key in sections if key in cfg}))}
    every = [
        (key, wrong)
        for key, value in known.items()
        for wrong in WRONG[list if isinstance(value, tuple) else type(value)]
    ]
    return random.Random(seed).sample(every, min(number, len(every)))


def _leaves(value: Any, key: str = '') -> Iterator[tuple[str, Any]]:
    """Dotted keys and values; a dict counts as a value as well."""
    if isinstance(value, Mapping):
        if key:
            yield key, dict(value)
        for name, below in value.items():
            yield from _leaves(below, f'{key}.{name}' if key else name)
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for index, below in enumerate(value):
            yield from _leaves(below, f'{key}.{index}')
    else:
        yield key, value
