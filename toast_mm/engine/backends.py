"""Back ends through which a training writes files, pictures and its log."""

from __future__ import annotations

import logging
import os
import os.path as osp
import sys
from pathlib import Path
from typing import Any

import mmcv
import mmengine.visualization
from mmengine.fileio import LocalBackend, register_backend
from mmengine.visualization.vis_backend import force_init_env
from numpy.typing import NDArray

from toast_mm.files import WriteError, atomic_write


@register_backend('toast_mm.local', force=True)
class WholeFileBackend(LocalBackend):
    """mmengine's ``LocalBackend`` with atomic writes: a file is complete or does not exist.

    ``backend_args=dict(backend='toast_mm.local')`` chooses it.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes.

        Raises:
            WriteError: The file cannot be written; an older one does not change.
        """
        os.makedirs(os.path.dirname(filepath) or os.curdir, exist_ok=True)
        with atomic_write(os.fspath(filepath)) as partial:
            super().put(obj, partial)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text; raises as :meth:`put` does."""
        self.put(obj.encode(encoding), filepath)


def whole_files(folder: str) -> dict | None:
    """``backend_args`` for a folder; None for a remote store, whose writes are atomic anyway."""
    return None if '://' in folder else dict(backend='toast_mm.local')


class LocalVisBackend(mmengine.visualization.LocalVisBackend):
    """mmengine's ``LocalVisBackend`` that raises an error if a picture cannot be written.

    mmengine writes pictures with OpenCV, which reports no error.
    """

    @force_init_env
    def add_image(self, name: str, image: NDArray, step: int = 0, **kwargs: Any) -> None:
        """Write a picture, RGB."""
        mmcv.imwrite(image[..., ::-1], osp.join(self._img_save_dir, f'{name}_{step}.png'))


class LogFile(logging.FileHandler):
    """Python's ``FileHandler`` that ends the run when the log cannot be written.

    Python's own prints a traceback for every line and continues.
    """

    def handleError(self, record: logging.LogRecord) -> None:
        """Handle the failure to write a line.

        Raises:
            WriteError: The log cannot be written; the message names it.
        """
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            return super().handleError(record)
        raise WriteError(f'{self.baseFilename} cannot be written: {error}') from error
