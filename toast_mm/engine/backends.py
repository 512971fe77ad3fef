"""Where a training writes."""

from __future__ import annotations

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from toast_mm.files import whole_file


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
        with whole_file(os.fspath(filepath)) as partial:
            super().put(obj, partial)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text; raises as :meth:`put` does."""
        self.put(obj.encode(encoding), filepath)


def whole_files(folder: str) -> dict | None:
    """``backend_args`` for a folder; None for a remote store, which puts files whole by itself."""
    return None if '://' in folder else dict(backend='toast_mm.local')
