"""Reading checkpoints: safely, completely, and with errors that name the file.

Importing this module makes every mmengine reader of local files and URLs
(``Runner``, ``init_cfg``, ``init_model``, inferencers) read without unpickling
arbitrary objects.
"""

from __future__ import annotations

import os.path as osp
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import safetensors
import torch
from mmengine.dist import barrier, get_rank
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from safetensors.torch import load_file
from torch import Tensor

_multiarray = (np._core if hasattr(np, '_core') else np.core).multiarray

# What mmengine itself puts into a checkpoint beside tensors: logged values.
SAFE_GLOBALS = [
    HistoryBuffer,
    np.ndarray,
    np.dtype,
    _multiarray._reconstruct,
    _multiarray.scalar,
    *(type(np.dtype(kind)) for kind in ('f2', 'f4', 'f8', 'i4', 'i8', 'u1', '?')),
]


class CheckpointError(RuntimeError):
    """A checkpoint cannot be used; the message says which, why, and what would be right."""


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_from_local(filename: str, map_location: Any = None) -> dict:
    """Read a ``.safetensors`` file or a checkpoint of tensors and plain values.

    Args:
        filename: Path of the file.
        map_location: As in :func:`torch.load`.

    Returns:
        What the file holds: a state dict, or a dict with ``state_dict`` and
        more.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is truncated, of another format, or would
            need unpickling of arbitrary objects.
    """
    filename = osp.expanduser(filename)
    if not osp.isfile(filename):
        raise FileNotFoundError(f'checkpoint {filename} does not exist')
    try:
        if filename.endswith('.safetensors'):
            return load_file(filename, device=str(map_location or 'cpu'))
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            checkpoint = torch.load(filename, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        if needed := re.search(r'(?:GLOBAL|class|function) ([\w.]+)', str(error)):
            raise CheckpointError(
                f'checkpoint {filename} is refused: reading it would run the code of '
                f'{needed[1]}. Save it again as plain tensors (a state dict) or as safetensors'
            ) from error
        raise CheckpointError(f'checkpoint {filename} is damaged or no checkpoint') from error
    except (RuntimeError, EOFError, ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f'checkpoint {filename} is truncated or no checkpoint: {str(error).splitlines()[0]}'
        ) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'checkpoint {filename} holds a {type(checkpoint).__name__} instead of a state dict'
        )
    return checkpoint


@CheckpointLoader.register_scheme(prefixes=('http://', 'https://'), force=True)
def load_from_http(filename: str, map_location: Any = None) -> dict:
    """Download a checkpoint once per machine, check the hash in its name, and read it safely."""
    name = osp.basename(urlparse(filename).path)
    path = Path(torch.hub.get_dir()) / 'checkpoints' / name
    if get_rank() == 0 and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        sha256 = torch.hub.HASH_REGEX.search(name)
        torch.hub.download_url_to_file(filename, str(path), sha256[1] if sha256 else None)
    barrier()
    return load_from_local(str(path), map_location)


def check_fit(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], part: str) -> None:
    """Demand that ``given`` holds every tensor of ``expected`` in its shape.

    Args:
        expected: Tensors of the model by name.
        given: Tensors of the checkpoint by name.
        part: The part of the model that is spoken of in the error.

    Raises:
        CheckpointError: Lists what is missing or has another shape.
    """
    missing = [name for name in expected if name not in given]
    reshaped = [
        f'{name} {tuple(given[name].shape)} instead of {tuple(tensor.shape)}'
        for name, tensor in expected.items()
        if name in given and given[name].shape != tensor.shape
    ]
    if not missing and not reshaped:
        return
    covered = len(expected) - len(missing) - len(reshaped)
    message = [f'the checkpoint covers {covered} of {len(expected)} tensors of the {part}']
    if missing:
        message.append(f'missing: {", ".join(missing)}')
    if reshaped:
        message.append(f'of another shape: {", ".join(reshaped)}')
    if len(missing) == len(expected) and (prefix := _other_prefix(expected, given)):
        message.append(f'its names begin with {prefix!r}: say prefix={prefix!r} in init_cfg')
    raise CheckpointError('; '.join(message))


def _other_prefix(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str | None:
    """Prefix under which the file would have the first expected tensor."""
    first = next(iter(expected))
    return next((name[: -len(first)] for name in given if name.endswith(first)), None)
