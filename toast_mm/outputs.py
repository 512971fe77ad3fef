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
    outputs: Iterable[str | Path],
    inputs: Iterable[str | Path],
    overwrite: bool = False,
    new_folders: bool = False,
) -> None:
    """Check, before anything is computed, that outputs can be written and replace no other file.

    Devices, such as ``/dev/null``, may always be written.

    Args:
        outputs: Files to write.
        inputs: Files to read. Links to a file count as the file; URLs are ignored.
        overwrite: Whether outputs may exist.
        new_folders: Whether the folders of outputs are made if they do not exist.

    Raises:
        WriteError: An output is an input, another output, or a folder; or it exists without
            ``overwrite``; or no file can be written in its folder.
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
        if osp.isdir(output):
            raise WriteError(f'{output} is a folder: choose another path')
        if osp.lexists(output) and not overwrite:
            raise WriteError(
                f'{output} exists already: choose another path, or add --overwrite to replace it'
            )
        written.add(osp.realpath(output))
        _check_folder(Path(output), new_folders)


def _check_folder(output: Path, new_folders: bool) -> None:
    folder = output.parent
    while new_folders and not osp.lexists(folder):
        folder = folder.parent
    reason = None
    if not osp.lexists(folder):
        reason = 'does not exist'
    elif not folder.is_dir():
        reason = 'is no folder'
    elif not os.access(folder, os.W_OK | os.X_OK):
        reason = 'allows no new files'
    if reason:
        raise WriteError(f'{output} cannot be written: {folder} {reason}')


def _identity(path: str) -> tuple[int, int] | str:
    """Identity that a file shares with its links; the path if it does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return osp.realpath(path)
    return status.st_dev, status.st_ino
