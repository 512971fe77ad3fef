"""One rule for all command lines: no file is replaced unasked, and none that is read."""

from __future__ import annotations

import argparse
import os
import os.path as osp
from collections.abc import Iterable
from pathlib import Path

from toast_mm.checkpoint import WEIGHTS
from toast_mm.files import WriteError


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """The argument by which files may be replaced."""
    parser.add_argument(
        '--overwrite', action='store_true', help='replace files that are there already'
    )


def check_free(
    outputs: Iterable[str | Path], inputs: Iterable[str | Path], overwrite: bool = False
) -> None:
    """Refuse, before anything is computed, to write what would be a loss.

    Devices, such as ``/dev/null``, are always free.

    Args:
        outputs: Files that are to be written.
        inputs: Files that are read, by whatever name or link. Those that are elsewhere, as URLs,
            do no harm.
        overwrite: Whether outputs may be there already.

    Raises:
        WriteError: An output is an input or another output, or it is there and not to be replaced.
    """
    read = {_identity(str(f).replace('toast_mm://', f'{WEIGHTS}{os.sep}')): f for f in inputs}
    written = set()
    for output in outputs:
        if osp.exists(output) and not osp.isfile(output) and not osp.isdir(output):
            continue
        identity = _identity(str(output))
        if identity in read:
            raise WriteError(
                f'{output} would replace {read[identity]}, which is read: name another path'
            )
        if osp.realpath(output) in written:
            raise WriteError(f'{output} is to be written twice: name another path for one of them')
        if osp.lexists(output) and not overwrite:
            raise WriteError(
                f'{output} is there already: name another path, or say --overwrite to replace it'
            )
        written.add(osp.realpath(output))


def _identity(path: str) -> tuple[int, int] | str:
    """What a file has in common with its links, or the path of one that is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return osp.realpath(path)
    return status.st_dev, status.st_ino
