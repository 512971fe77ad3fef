"""Imports without the messages of mmcv, mmpretrain and mmseg about parts that are not used."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import cast

_ONEDL = 'Could not import OneDL'
_OPS = 'Fail to import ``MultiScaleDeformableAttention``'


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Drop two messages; all other output during the import goes to standard error.

    OneDL is an optional package. ``MultiScaleDeformableAttention`` needs the compiled operators of
    mmcv, which toast_mm does not use. Warning filters that the imports add are kept.
    """
    warnings.filterwarnings('ignore', _OPS, UserWarning)
    filters = cast('list', warnings.filters)
    ours = filters[0]
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        if ours in filters:
            filters.remove(ours)
        lines = printed.getvalue().splitlines(keepends=True)
        sys.stderr.writelines(line for line in lines if line.strip() != _ONEDL)
