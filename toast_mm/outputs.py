"""Output files of command lines: none replaces a file unless asked to, and never an input."""

from __future__ import annotations

import argparse
import os
import os.path as osp
from collections.abc import Iterable
from pathlib import Path

from toast_mm.checkpoint import WEIGHTS
from toast_mm.files import WriteError


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add the argument ``--overwrite``."""
    parser.add_argument('--overwrite', action='store_true', help='replace files that exist')


def check_free(
    outputs: Iterable[str | Path], inputs: Iterable[str | Path], overwrite: bool = False
) -> None:
    """Check, before anything is computed, that no output would replace a file by accident.

    Devices, such as ``/dev/null``, may always be written.

    Args:
        outputs: Files to write.
        inputs: Files to read. Links to a file count as the file; URLs are ignored.
        overwrite: Whether outputs may exist.

    Raises:
        WriteError: An output is an input or another output, or it exists without ``overwrite``.
    """
    read = {_identity(str(f).replace('toast_mm://', f'{WEIGHTS}{os.sep}')): f for f in inputs}
    written = set()
    for output in outputs:
        if osp.exists(output) and not osp.isfile(output) and not osp.isdir(output):
            continue
        identity = _identity(str(output))
        if identity in read:
            raise WriteError(
                f'{output} would replace {read[identity]}, which is read: choose another path'
            )
        if osp.realpath(output) in written:
            raise WriteError(
                f'{output} would be written twice: choose another path for one of them'
            )
        if osp.lexists(output) and not overwrite:
            raise WriteError(
                f'{output} exists already: choose another path, or add --overwrite to replace it'
            )
        written.add(osp.realpath(output))


def _identity(path: str) -> tuple[int, int] | str:
    """Identity that a file shares with its links; the path if it does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return osp.realpath(path)
    return status.st_dev, status.st_ino
