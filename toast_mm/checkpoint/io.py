"""Reading checkpoints: safely, completely, and with errors that name the file.

Importing this module makes every reader of mmengine (``Runner``, ``init_cfg``, ``init_model``,
inferencers) take a checkpoint as data, whatever its source. ``docs/security.md`` says what that
means; inside :func:`trusted` they read as mmengine does without this package.
"""

from __future__ import annotations

import codecs
import functools
import json
import os
import os.path as osp
import pickle
import re
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mmengine.infer.infer
import mmengine.runner.checkpoint
import numpy as np
import torch
from mmengine.dist import barrier, get_rank
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from safetensors import safe_open

from toast_mm.config_text import plain_config, refused_config
from toast_mm.trust import WAY_OUT, is_trusted

from .downloads import DownloadError, download
from .hub import PREFIX, download_from_hub

# The small checkpoints that come with the package.
WEIGHTS = Path(__file__).parents[1] / 'weights'

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
            need unpickling of arbitrary objects, and is not :func:`trusted`.
    """
    filename = osp.expanduser(filename)
    if not osp.isfile(filename):
        if osp.isdir(filename):
            raise FileNotFoundError(f'checkpoint {filename} is a folder: name a file in it')
        raise FileNotFoundError(f'checkpoint {filename} does not exist')
    if filename.endswith('.safetensors'):
        return _read_safetensors(filename, map_location)
    return read_torch(filename, map_location)


def _read_safetensors(filename: str, map_location: Any) -> dict:
    if isinstance(map_location, Mapping):
        map_location = map_location.get('cpu')
    elif callable(map_location):
        map_location = getattr(map_location(torch.UntypedStorage(0), 'cpu'), 'device', None)
    device = torch.device('cpu' if map_location is None else map_location)
    try:
        with safe_open(filename, 'pt') as file:
            weights = {name: file.get_tensor(name).to(device) for name in file.keys()}  # noqa: SIM118
            meta: dict[str, Any] = file.metadata() or {}
        if 'dataset_meta' in meta:
            meta['dataset_meta'] = json.loads(meta['dataset_meta'])
    except (PermissionError, MemoryError):
        raise
    except Exception as error:
        raise CheckpointError(
            f'checkpoint {filename} is truncated or no checkpoint: {_first_line(error)}'
        ) from error
    checkpoint = {'state_dict': weights, 'meta': meta}
    _check_form(checkpoint, filename)
    plain_config(checkpoint)
    return checkpoint


def read_torch(file: Any, map_location: Any = None, weights_only: bool | None = None) -> dict:
    """Read a checkpoint that ``torch.save`` wrote, of tensors and plain values.

    Args:
        file: Path, or open file.
        map_location: As in :func:`torch.load`.
        weights_only: False runs what the file says. Defaults to None: False where files are
            :func:`trusted`, else True.

    Raises:
        CheckpointError: As :func:`load_from_local`.
    """
    name = file if isinstance(file, (str, Path)) else getattr(file, 'name', 'from this source')
    safe = not is_trusted() if weights_only is None else weights_only
    try:
        # Here and not once: a context of others that ends takes what it shares from the list.
        torch.serialization.add_safe_globals(SAFE_GLOBALS)
        checkpoint = torch.load(file, map_location=map_location, weights_only=safe)
    except (PermissionError, MemoryError):
        raise
    # What the bytes of a broken file lead an unpickler to. PyTorch's own words are not shown: they
    # advise to run the code of files that it cannot read.
    except Exception as error:
        why = 'holds nothing but zeros' if _is_zeroed(file) else _why_not(error)
        raise CheckpointError(f'checkpoint {name} {why}') from None
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'checkpoint {name} holds a {type(checkpoint).__name__} instead of a state dict'
        )
    _check_form(checkpoint, name)
    if safe:
        plain_config(checkpoint)
    return checkpoint


def _check_form(checkpoint: dict, name: Any) -> None:
    """Check what mmengine takes for granted of the parts of a checkpoint."""
    if 'state_dict' not in checkpoint:
        return
    weights, meta = checkpoint['state_dict'], checkpoint.get('meta') or {}
    wrong = ''
    if not isinstance(weights, Mapping):
        wrong = f'state_dict is a {type(weights).__name__} instead of a dict of tensors by name'
    elif odd := [key for key in weights if not isinstance(key, str)]:
        wrong = f'state_dict has the key {odd[0]!r}, which is no name of a tensor'
    elif not isinstance(meta, Mapping):
        wrong = f'meta is a {type(meta).__name__} instead of a dict'
    else:
        data = meta.get('dataset_meta') or {}
        names = data.get('classes') or () if isinstance(data, Mapping) else None
        if not isinstance(names, (list, tuple)):
            wrong = f'dataset_meta={data!r} is no dict in which classes is a list of names'
    if wrong:
        raise CheckpointError(f'checkpoint {name} has another form than mmengine gives it: {wrong}')


def _why_not(error: Exception) -> str:
    """What is wrong with a checkpoint that PyTorch cannot read, and what would be right."""
    text = str(error)
    if needed := re.search(r"(?:GLOBAL |got <class '(?=\w+\.))([\w.]+)", text):
        return (
            f'is refused: reading it would run the code of {needed[1]}. Save it again as plain '
            f'tensors (a state dict) or as safetensors, or, {WAY_OUT}'
        )
    if 'TorchScript' in text:
        return 'is a TorchScript archive and no state dict: save the state_dict() of its module'
    if 'legacy .tar format' in text or 'Unsupported operand 149' in text:  # pickle's protocol 4
        return (
            'is of a format that cannot be read without running code: save it again by '
            f'torch.save, or, {WAY_OUT}'
        )
    if isinstance(error, pickle.UnpicklingError) or 'weights_only' in text:
        return 'is damaged or no checkpoint'
    return f'is truncated or no checkpoint: {_first_line(error)}'


def _is_zeroed(file: Any) -> bool:
    """Whether a crash left zeros in place of the content, which PyTorch takes for an empty tar."""
    try:
        if not hasattr(file, 'read'):
            with open(file, 'rb') as opened:
                return _is_zeroed(opened)
        file.seek(0)
        head = file.read(1024)
    except OSError:
        return False
    return bool(head) and not any(head)


def _first_line(error: Exception) -> str:
    return traceback.format_exception_only(error)[0].splitlines()[0]


@CheckpointLoader.register_scheme(prefixes=('http://', 'https://'), force=True)
def load_from_http(
    filename: str,
    map_location: Any = None,
    model_dir: str | None = None,
    progress: bool = os.isatty(0),
) -> dict:
    """Download a checkpoint once per machine, check the hash in its name, and read it safely.

    Args:
        filename: URL.
        map_location: As in :func:`torch.load`.
        model_dir: Cache, in which the whole URL tells a file from others of its name. Defaults to
            None, PyTorch's: ``$TORCH_HOME/hub/checkpoints``.
        progress: Whether to show a progress bar. Defaults to whether somebody is there to see it.

    Raises:
        CheckpointError: It cannot be downloaded, or as :func:`load_from_local`.
    """
    path = _once_per_machine(lambda: download(filename, model_dir, progress))
    return load_from_local(str(path), map_location)


@CheckpointLoader.register_scheme(prefixes=PREFIX, force=True)
def load_from_hub(filename: str, map_location: Any = None) -> dict:
    """Read a safetensors file of the Hugging Face Hub, downloaded once per machine.

    Args:
        filename: ``hf://owner/name[@revision][/file.safetensors]``. Without a file it is
            ``model.safetensors``.
        map_location: As in :func:`torch.load`.

    Raises:
        CheckpointError: It cannot be downloaded, or as :func:`load_from_local`.
    """
    path = _once_per_machine(lambda: download_from_hub(filename))
    return load_from_local(str(path), map_location)


def fetch(filename: str) -> None:
    """Download a checkpoint of the web or the Hub that is not on this machine yet.

    Raises:
        CheckpointError: It cannot be downloaded.
    """
    if filename.startswith(('http://', 'https://')):
        _once_per_machine(lambda: download(filename, progress=os.isatty(0)))
    elif filename.startswith(PREFIX):
        _once_per_machine(lambda: download_from_hub(filename))


def _once_per_machine(get: Callable[[], Path]) -> Path:
    """Path of a file that process 0 downloads, and others if they do not see its file system."""
    try:
        path = get() if get_rank() == 0 else None
        barrier()
        return path or get()
    except DownloadError as error:
        raise CheckpointError(f'checkpoint {error}') from error


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


# By these names mmengine reads its model zoos (open-mmlab://, mmcls://, torchvision://), and what
# it reads itself: s3://, petrel://, pavi://, and files that open_mmlab.json names.
mmengine.runner.checkpoint.load_from_http = load_from_http
mmengine.runner.checkpoint._safe_torch_load = read_torch


def _named(load: Callable[..., dict]) -> Callable[..., dict]:
    """A reader of mmengine whose errors do not say what was asked for."""

    @functools.wraps(load)
    def load_named(filename: str, *args: Any, **kwargs: Any) -> dict:
        try:
            return load(filename, *args, **kwargs)
        except CheckpointError as error:
            raise CheckpointError(f'{filename}: {error}') from None
        except KeyError as error:
            if not filename.endswith(f'://{error.args[0]}'):
                raise
            raise CheckpointError(
                f'{filename}: the model zoo has no {error.args[0]!r}; weights elsewhere '
                'are named by a path or URL'
            ) from None

    return load_named


for _loader, _prefixes in (
    (mmengine.runner.checkpoint.load_from_ceph, [r'(\S+\:)?s3://', r'(\S+\:)?petrel://']),
    (mmengine.runner.checkpoint.load_from_pavi, ['pavi://']),
    (mmengine.runner.checkpoint.load_from_torchvision, ['modelzoo://', 'torchvision://']),
    (mmengine.runner.checkpoint.load_from_openmmlab, ['open-mmlab://', 'openmmlab://']),
    (mmengine.runner.checkpoint.load_from_mmcls, ['mmcls://']),
):
    CheckpointLoader.register_scheme(_prefixes, _named(_loader), force=True)


def _load_for_inference(filename: str, map_location: Any = None, logger: Any = None) -> dict:
    """As mmengine, for inferencers: ``MMSegInferencer(None, weights)`` runs the file's config."""
    checkpoint = CheckpointLoader.load_checkpoint(filename, map_location, logger)
    return checkpoint if is_trusted() else refused_config(checkpoint, filename)


mmengine.infer.infer._load_checkpoint = _load_for_inference
