"""The key of a cache: a digest of all that a first pass depends on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from toast_mm.checkpoint.fingerprint import fingerprint
from toast_mm.models.backbones.steering import SteeredBackbone
from toast_mm.registry import type_name
from toast_mm.version import __version__

# Arguments of a backbone that do not change its first pass, or that its weights determine.
_IRRELEVANT = {
    'channel_selection',
    'drop_path_rate',
    'feedback_gain',
    'feedback_std',
    'first_pass',  # its scale is in the key
    'init_cfg',
    'lite',
    'pretuned',
    'token_selection',
    'tune_channel_transform',
    'value_bias_twice',
}


def cache_key(
    backbone: SteeredBackbone,
    config: Mapping[str, Any],
    preprocessing: Mapping[str, Any],
    pipeline: Sequence[Mapping[str, Any]],
    dataset: Any,
    dtype: str,
) -> str:
    """Digest of weights, arguments, transforms and images that determine a first pass.

    Images are identified by path, size and modification time.

    Args:
        backbone: The backbone, for its weights.
        config: Its config.
        preprocessing: Config of the data preprocessor.
        pipeline: Config of the transforms.
        dataset: Data set of mmengine.
        dtype: Type of the cached streams.

    Raises:
        FileNotFoundError: An image is missing; the message names it.
        ValueError: The data set does not say which images it has.
    """
    weights = {
        name: tensor for name, tensor in backbone.state_dict().items() if backbone.is_base(name)
    }
    described = dict(
        version=__version__,
        weights=fingerprint(weights),
        backbone={name: value for name, value in config.items() if name not in _IRRELEVANT},
        **(dict(scale=backbone.first_scale) if backbone.coarse else {}),
        preprocessing=preprocessing,
        pipeline=[step for step in pipeline if type_name(step) != 'SeedAugmentation'],
        dtype=dtype,
    )
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=repr).encode())
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        if 'img_path' in info:
            stat = os.stat(info['img_path'])
            digest.update(f'{info["img_path"]} {stat.st_size} {stat.st_mtime_ns}\n'.encode())
        elif 'img' in info:
            digest.update(np.ascontiguousarray(info['img']).data)
        else:
            raise ValueError(
                f'first_pass_cache: {type(dataset).__name__} does not say which images it has: its '
                "samples have neither 'img_path' nor 'img'"
            )
    return digest.hexdigest()[:24]
