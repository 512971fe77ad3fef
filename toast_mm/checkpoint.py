"""Reading checkpoints: safely, completely, and with errors that name the file.

Importing this module makes every mmengine reader of local files and URLs
(``Runner``, ``init_cfg``, ``init_model``, inferencers) read without unpickling
arbitrary objects.
"""

from __future__ import annotations

import codecs
import functools
import json
import os.path as osp
import pickle
import re
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import mmengine.runner.checkpoint
import numpy as np
import torch
from mmengine.dist import barrier, get_rank
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from safetensors import safe_open
from torch import Tensor

# The small checkpoints that come with the package.
WEIGHTS = Path(__file__).parent / 'weights'

_multiarray = (np._core if hasattr(np, '_core') else np.core).multiarray


def _history_buffer_method(owner: type, name: str) -> Any:
    """What ``getattr`` is in mmengine's checkpoints: logged values name their statistics."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError(f'GLOBAL builtins.getattr({owner!r}, {name!r})')
    return getattr(HistoryBuffer, name)


_history_buffer_method.__module__ = 'builtins'
_history_buffer_method.__name__ = _history_buffer_method.__qualname__ = 'getattr'


def _known_as(module: str, function: Callable) -> Callable:
    """A function under the module where a checkpoint looks for it."""

    @functools.wraps(function)
    def alias(*args: Any) -> Any:
        return function(*args)

    alias.__module__ = module
    return alias


# What mmengine itself puts into a checkpoint beside tensors and plain values: logged numbers.
SAFE_GLOBALS = [
    HistoryBuffer,
    _history_buffer_method,
    codecs.encode,  # of bytes in numpy's arrays
    np.ndarray,
    np.dtype,
    *(
        _known_as(f'numpy.{core}.multiarray', function)
        for core in ('core', '_core')  # numpy 1, numpy 2
        for function in (_multiarray._reconstruct, _multiarray.scalar)
    ),
    *{type(np.dtype(code)) for code in f'?{np.typecodes["AllInteger"]}{np.typecodes["Float"]}'},
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
        more. Of a ``.safetensors`` file, its tensors as ``state_dict`` and its
        metadata as ``meta``.

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
            with safe_open(filename, 'pt', device=str(map_location or 'cpu')) as file:
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                meta: dict[str, Any] = file.metadata() or {}
            if 'dataset_meta' in meta:
                meta['dataset_meta'] = json.loads(meta['dataset_meta'])
            return {'state_dict': weights, 'meta': meta}
        # Here and not once: a context of others that ends takes what it shares from the list.
        torch.serialization.add_safe_globals(SAFE_GLOBALS)
        checkpoint = torch.load(filename, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        if needed := re.search(r"(?:GLOBAL |got <class '(?=\w+\.))([\w.]+)", str(error)):
            raise CheckpointError(
                f'checkpoint {filename} is refused: reading it would run the code of '
                f'{needed[1]}. Save it again as plain tensors (a state dict) or as safetensors'
            ) from error
        raise CheckpointError(f'checkpoint {filename} is damaged or no checkpoint') from error
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # what the bytes of a broken file lead an unpickler to
        why = traceback.format_exception_only(error)[0].splitlines()[0]
        raise CheckpointError(
            f'checkpoint {filename} is truncated or no checkpoint: {why}'
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
    if get_rank() == 0:
        _download(filename, path)
    barrier()
    _download(filename, path)  # where the file system is not that of process 0
    return load_from_local(str(path), map_location)


def _download(url: str, path: Path) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    sha256 = re.search(r'-([a-f0-9]{8,})\.', path.name)  # eight digits or more, as published
    try:
        torch.hub.download_url_to_file(url, str(path), sha256 and sha256[1])
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f'checkpoint {url} cannot be downloaded: {error}') from error


@CheckpointLoader.register_scheme(prefixes='toast_mm://', force=True)
def load_from_package(filename: str, map_location: Any = None) -> dict:
    """Read one of the small checkpoints that come with this package: ``toast_mm://<file>``.

    Raises:
        CheckpointError: There is none of this name; lists those that there are.
    """
    path = WEIGHTS / filename.removeprefix('toast_mm://')
    if not path.is_file():
        names = sorted(f'toast_mm://{file.name}' for file in WEIGHTS.glob('*.safetensors'))
        there = ', '.join(names) or 'none'
        raise CheckpointError(f'{filename} does not come with toast_mm; there are: {there}')
    return load_from_local(str(path), map_location)


# By this name mmengine reads its model zoos: open-mmlab://, mmcls://, torchvision://.
mmengine.runner.checkpoint.load_from_http = load_from_http


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
        message.append(f'missing: {_some(missing)}')
    if reshaped:
        message.append(f'of another shape: {_some(reshaped)}')
    raise CheckpointError('; '.join(message))


def _some(names: list[str], number: int = 12) -> str:
    """The first of many names, and how many there are."""
    more = f' and {len(names) - number} more' if len(names) > number else ''
    return ', '.join(names[:number]) + more
