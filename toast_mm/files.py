"""Atomic writes: a file is complete or does not exist; and errors that name the file."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import os.path as osp
import re
import secrets
import socket
import stat
import time
import traceback
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from safetensors.torch import save
from torch import Tensor


class WriteError(OSError):
    """A file cannot be written; the message says which and why."""


@contextmanager
def atomic_write(path: str) -> Iterator[str]:
    """Yield a temporary name next to ``path`` with the same suffix, and rename the file at the end.

    If the writing is interrupted, an older file does not change. The content is on the disk before
    the file is renamed. Of several simultaneous writers each writes a complete file; the last one
    wins. Temporary files of killed writers are removed by the next writer in the folder.

    A device, such as ``/dev/null``, is written to directly.

    Raises:
        WriteError: There is no space, no permission or no such folder.

    Example:
        >>> with atomic_write('weights.pth') as partial:
        ...     torch.save(weights, partial)
    """
    folder = osp.dirname(path) or os.curdir
    is_device = osp.exists(path) and not stat.S_ISREG(os.stat(path).st_mode)
    partial = path if is_device else _partial_name(path)
    try:
        _remove_leftovers(folder)
        yield partial
        if not is_device:
            _sync(partial)
            os.replace(partial, path)
            with suppress(OSError):  # the file is there; not every file system syncs a folder
                _sync(folder)
    except (OSError, RuntimeError) as error:
        if isinstance(error, WriteError) or not (
            isinstance(error, OSError) or _is_of_writing(error)
        ):
            raise
        raise WriteError(f'{path} cannot be written: {error}') from error
    finally:
        if not is_device and osp.exists(partial):
            os.remove(partial)


_HOST = f'{zlib.crc32(socket.gethostname().encode()):08x}'
_PROCESS = secrets.token_hex(4)  # tells this process from an older one with the same id
_PARTIAL = re.compile(r'\.partial-([0-9a-f]{8})-(\d+)-([0-9a-f]{8})[0-9a-f]{8}(\.[^.]*)?')
_DAY = 24 * 60 * 60


def _partial_name(path: str) -> str:
    root, suffix = osp.splitext(path)
    writer = f'{_HOST}-{os.getpid()}-{_PROCESS}{secrets.token_hex(4)}'
    return f'{root}.partial-{writer}{suffix}'


def _remove_leftovers(folder: str) -> None:
    """Remove the temporary files of writers that have ended."""
    with suppress(OSError):  # no folder or no permission: writing raises the error
        for name in os.listdir(folder):
            match = _PARTIAL.search(name)
            if match and match.end() == len(name):
                path = osp.join(folder, name)
                if not _is_writing(path, match[1], int(match[2]), match[3]):
                    os.remove(path)


def _is_writing(path: str, host: str, process: int, token: str) -> bool:
    """Whether the writer of a temporary file may still be at work."""
    if host != _HOST or os.name != 'posix':
        return time.time() - osp.getmtime(path) < _DAY
    if process == os.getpid():
        return token == _PROCESS
    try:
        os.kill(process, 0)  # signal 0 only tests whether the process exists
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _sync(path: str) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_of_writing(error: RuntimeError) -> bool:
    """Whether PyTorch raised the error in place of an OSError, such as for a full disk."""
    return (
        re.search('StreamWriter|inline_container|iostream|directory .* does not exist', str(error))
        is not None
    )


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, quota, or size of a file


@contextmanager
def naming_files() -> Iterator[None]:
    """Name the file that other code was writing when the disk was full; also a decorator.

    Python's error names a file that cannot be opened, but not one that cannot grow. The cut file is
    removed, unless the code was appending to it.

    Raises:
        WriteError: Replaces an ``OSError`` without a file name.
    """
    try:
        yield
    except OSError as error:
        file = _being_written(error.__traceback__)
        if isinstance(error, WriteError) or error.errno not in _FULL or error.filename or not file:
            raise
        path, mode = file
        if 'a' not in mode and '+' not in mode:
            os.remove(path)
        raise WriteError(f'{path} cannot be written: {error}') from error


def _being_written(step: TracebackType | None) -> tuple[str, str] | None:
    """Name and mode of the file that was being written, from the innermost frame that has one."""
    for frame, _ in reversed([*traceback.walk_tb(step)]):
        for value in frame.f_locals.values():
            if isinstance(value, logging.FileHandler):
                value = value.stream
            if isinstance(value, io.IOBase):
                name, mode = (str(getattr(value, key, '')) for key in ('name', 'mode'))
                if mode.strip('rbt') and osp.isfile(name):
                    return name, mode
    return None


def save_safetensors(tensors: Mapping[str, Tensor], path: str, metadata: Mapping[str, Any]) -> None:
    """Write tensors and metadata as a ``.safetensors`` file; values other than strings as JSON.

    Raises:
        WriteError: The file cannot be written.
    """
    # safetensors' own writer makes files that only their owner can read.
    write_atomically(safetensors_content(tensors, metadata), path)


def safetensors_content(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Content of the file that :func:`save_safetensors` writes."""
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    return save({name: t.detach().contiguous() for name, t in tensors.items()}, texts)


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder for files that are written, with the folders above it, unless it exists.

    Raises:
        WriteError: There is no permission or no space, or a file has its name.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise WriteError(f'the folder {os.fspath(path)} cannot be made: {error}') from error


def write_atomically(content: bytes, path: str) -> None:
    """Write a file that is complete or does not exist.

    Raises:
        WriteError: The file cannot be written.
    """
    with atomic_write(path) as partial, open(partial, 'wb') as file:
        file.write(content)
