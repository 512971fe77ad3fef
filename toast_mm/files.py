"""Files that are whole or not there."""

from __future__ import annotations

import json
import os
import os.path as osp
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from safetensors.torch import save
from torch import Tensor


class WriteError(OSError):
    """A file cannot be written; the message says which and why."""


@contextmanager
def whole_file(path: str) -> Iterator[str]:
    """Give a temporary name beside ``path``, of the same suffix, and rename it at the end.

    Whatever interrupts the writing, nothing stays behind and a former file stays as it was.

    Raises:
        WriteError: No space, no permission, no such folder.

    Example:
        >>> with whole_file('weights.pth') as partial:
        ...     torch.save(weights, partial)
    """
    root, suffix = osp.splitext(path)
    partial = f'{root}.partial{suffix}'
    try:
        yield partial
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        if not isinstance(error, OSError) and not _is_of_writing(error):
            raise
        raise WriteError(f'{path} cannot be written: {error}') from error
    finally:
        if osp.exists(partial):
            os.remove(partial)


def _is_of_writing(error: RuntimeError) -> bool:
    """Whether it is what PyTorch raises in place of an OSError, for a full disk for one."""
    return (
        re.search('StreamWriter|inline_container|iostream|directory .* does not exist', str(error))
        is not None
    )


def save_safetensors(tensors: Mapping[str, Tensor], path: str, metadata: Mapping[str, Any]) -> None:
    """Write tensors and metadata as a ``.safetensors`` file; what is no string, as JSON.

    Raises:
        WriteError: The file cannot be written.
    """
    # Written here: safetensors' own writer makes files that nobody but their owner can read.
    write_whole(safetensors_content(tensors, metadata), path)


def safetensors_content(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Content of the file that :func:`save_safetensors` writes."""
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    return save({name: t.detach().contiguous() for name, t in tensors.items()}, texts)


def write_whole(content: bytes, path: str) -> None:
    """Write a file that is whole or not there.

    Raises:
        WriteError: The file cannot be written.
    """
    with whole_file(path) as partial, open(partial, 'wb') as file:
        file.write(content)
