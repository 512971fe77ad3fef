"""Damaged weights, in both formats, for checkpoints and task files."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from damage import LOST, other_zip
from safetensors.torch import save
from torch import Tensor, nn

Weights = dict[str, Tensor]


def torch_content(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def content(weights: Weights, meta: dict[str, Any], suffix: str) -> bytes:
    """A checkpoint in one of the formats."""
    if suffix == '.pth':
        return torch_content(dict(state_dict=weights, meta=meta))
    texts = {name: value for name, value in meta.items() if isinstance(value, str)}
    if 'dataset_meta' in meta:
        texts['dataset_meta'] = json.dumps(meta['dataset_meta'])
    return save({name: tensor.contiguous() for name, tensor in weights.items()}, texts)


def one_of(weights: Weights, rng: random.Random) -> str:
    """Name of a weight of a block of the base, or of what a task file holds of the backbone."""
    names = [name for name in weights if name.startswith('backbone.layers.')]
    names = names or [name for name in weights if name.startswith('backbone.topdown.')]
    return rng.choice([name for name in names if weights[name].is_floating_point()])


def not_finite(weights: Weights, rng: random.Random) -> Weights:
    name = one_of(weights, rng)
    tensor = weights[name].clone()
    tensor.view(-1)[rng.randrange(tensor.numel())] = rng.choice([float('nan'), float('inf')])
    return weights | {name: tensor}


def missing_key(weights: Weights, rng: random.Random) -> Weights:
    name = one_of(weights, rng)
    return {key: tensor for key, tensor in weights.items() if key != name}


def renamed_key(weights: Weights, rng: random.Random) -> Weights:
    name = one_of(weights, rng)
    return {(f'{key}_old' if key == name else key): tensor for key, tensor in weights.items()}


def wrong_shape(weights: Weights, rng: random.Random) -> Weights:
    name = one_of(weights, rng)
    tensor = weights[name]
    return weights | {name: rng.choice([tensor[:-1], tensor[None], tensor.flatten()[:3]])}


def whole_numbers(weights: Weights, rng: random.Random) -> Weights:
    """Quantised, with the scale lost."""
    name = one_of(weights, rng)
    return weights | {name: (weights[name] * 100).to(rng.choice([torch.int8, torch.int64]))}


def other_width(weights: Weights, rng: random.Random) -> Weights:
    """Weights of a wider model: sides of 16 channels or multiples of it are doubled."""
    wider = {}
    for name, tensor in weights.items():
        for dim, size in enumerate(tensor.shape):
            if tensor.is_floating_point() and size % 16 == 0:
                tensor = torch.cat([tensor, tensor], dim)
        wider[name] = tensor
    return wider


def without_last_block(weights: Weights, rng: random.Random) -> Weights:
    return {name: tensor for name, tensor in weights.items() if '.layers.1.' not in name}


def empty(weights: Weights, rng: random.Random) -> Weights:
    return {}


# Damage of tensors, in either format.
OF_TENSORS: dict[str, Callable[[Weights, random.Random], Weights]] = {
    'NaN or infinite': not_finite,
    'a missing key': missing_key,
    'a renamed key': renamed_key,
    'a wrong shape': wrong_shape,
    'whole numbers': whole_numbers,
    'of a wider model': other_width,
    'of a model of fewer blocks': without_last_block,
    'no weights': empty,
}


class Somewhere(nn.Module):
    """A class of the user's."""


def objects(weights: Weights, meta: dict[str, Any], rng: random.Random) -> bytes:
    value = rng.choice([Path('/somewhere'), random.Random(0), io.StringIO, nn.Linear(2, 2)])
    return torch_content(dict(state_dict=weights, meta=meta | dict(extra=value)))


def plain_pickle(weights: Weights, meta: dict[str, Any], rng: random.Random) -> bytes:
    arrays = {name: tensor.numpy() for name, tensor in weights.items()}
    return pickle.dumps(dict(state_dict=arrays), protocol=rng.choice([2, 4, 5]))


def nested_wrong(weights: Weights, meta: dict[str, Any], rng: random.Random) -> bytes:
    return torch_content(
        rng.choice(
            [
                dict(state_dict=dict(state_dict=weights)),
                dict(network=weights),
                dict(state_dict=[*weights.values()]),
                dict(state_dict=None),
                dict(state_dict={}),
                [*weights.items()],
                next(iter(weights.values())),
                dict(state_dict={f'net.body.{name}': tensor for name, tensor in weights.items()}),
                dict(state_dict={n: (t if n != 'head' else 5) for n, t in weights.items()}, meta=7),
            ]
        )
    )


def no_tensor(weights: Weights, meta: dict[str, Any], rng: random.Random) -> bytes:
    value: Any = rng.choice([5, 'text', None, [1.0, 2.0], {}])
    return torch_content(dict(state_dict=weights | {one_of(weights, rng): value}, meta=meta))


def keys_of_numbers(weights: Weights, meta: dict[str, Any], rng: random.Random) -> bytes:
    return torch_content(dict(state_dict=dict(enumerate(weights.values())), meta=meta))


# Damage that only files of torch.save can have.
OF_PICKLES: dict[str, Callable[[Weights, dict[str, Any], random.Random], bytes]] = {
    'objects': objects,
    'a plain pickle': plain_pickle,
    'nested wrongly': nested_wrong,
    'a value that is no tensor': no_tensor,
    'numbers for keys': keys_of_numbers,
}


def header_length(content: bytes, rng: random.Random) -> bytes:
    length = rng.choice([0, 1, 2**20, 2**63, 2**64 - 1])
    return struct.pack('<Q', length) + content[8:]


def header_text(content: bytes, rng: random.Random) -> bytes:
    (length,) = struct.unpack('<Q', content[:8])
    place = 8 + rng.randrange(length)
    return content[:place] + rng.choice([b'}', b'"', b'\xff', b'\x00', b'9']) + content[place + 1 :]


def bad_notes(content: bytes, rng: random.Random) -> bytes:
    """Metadata that are not what they should be."""
    (length,) = struct.unpack('<Q', content[:8])
    header = json.loads(content[8 : 8 + length])
    header['__metadata__'] = {'dataset_meta': rng.choice(['{', '[1]', '5', '{"classes": 3}'])}
    text = json.dumps(header).encode()
    return struct.pack('<Q', len(text)) + text + content[8 + length :]


# Damage that only safetensors files can have.
OF_HEADERS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    'length of the header': header_length,
    'text of the header': header_text,
    'notes of another form': bad_notes,
}
OF_BYTES = LOST | {'a zip of something else': other_zip}
KINDS = (*OF_BYTES, *OF_TENSORS, *OF_PICKLES, *OF_HEADERS)


def valid_forms(weights: Weights, rng: random.Random) -> dict[str, Any]:
    """Unusual checkpoints that hold the same weights."""
    return rng.choice(
        [
            dict(state_dict={f'module.{name}': tensor for name, tensor in weights.items()}),
            dict(weights),
            dict(state_dict=OrderedDict(weights), epoch=3),
        ]
    )


def damaged(
    weights: Weights, meta: dict[str, Any], damage: str, rng: random.Random
) -> tuple[bytes, str]:
    """Content of a damaged file, and its suffix."""
    suffix = rng.choice(['.pth', '.safetensors'])
    if damage in OF_PICKLES:
        return OF_PICKLES[damage](weights, meta, rng), '.pth'
    if damage in OF_HEADERS:
        return OF_HEADERS[damage](content(weights, meta, '.safetensors'), rng), '.safetensors'
    if damage in OF_TENSORS:
        return content(OF_TENSORS[damage](weights, rng), meta, suffix), suffix
    return OF_BYTES[damage](content(weights, meta, suffix), rng), suffix
