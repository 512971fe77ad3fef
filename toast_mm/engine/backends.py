"""Where a training writes."""

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
    """mmengine's ``LocalBackend``, whose files are whole or not there.

    Chosen by ``backend_args=dict(backend='toast_mm.local')``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes.

        Raises:
            WriteError: The file cannot be written; the former one stays as it was.
        """
        os.makedirs(os.path.dirname(filepath) or os.curdir, exist_ok=True)
        with atomic_write(os.fspath(filepath)) as partial:
            super().put(obj, partial)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text; raises as :meth:`put` does."""
        self.put(obj.encode(encoding), filepath)


def whole_files(folder: str) -> dict | None:
    """``backend_args`` for a folder; None for a remote store, which puts files whole by itself."""
    return None if '://' in folder else dict(backend='toast_mm.local')


class LocalVisBackend(mmengine.visualization.LocalVisBackend):
    """mmengine's ``LocalVisBackend``, by which a picture that cannot be written is an error.

    mmengine writes it by OpenCV, which says so to nobody.
    """

    @force_init_env
    def add_image(self, name: str, image: NDArray, step: int = 0, **kwargs: Any) -> None:
        """Write a picture, RGB."""
        mmcv.imwrite(image[..., ::-1], osp.join(self._img_save_dir, f'{name}_{step}.png'))


class LogFile(logging.FileHandler):
    """Python's ``FileHandler``, which ends the run when the log cannot be written.

    Python prints a traceback for every line and goes on; so does mmengine, until it writes to the
    file by itself.
    """

    def handleError(self, record: logging.LogRecord) -> None:
        """Called where writing a line has failed.

        Raises:
            WriteError: Names the log.
        """
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            return super().handleError(record)
        raise WriteError(f'{self.baseFilename} cannot be written: {error}') from error
