"""Quiet imports: what mmcv, mmpretrain and mmseg say of parts that toast_mm does not use."""

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
    """Leave out two messages; whatever else is printed meanwhile goes to standard error.

    OneDL is an optional package. ``MultiScaleDeformableAttention`` needs the compiled operators of
    mmcv, which are not needed here. Filters for warnings that the imports set up stay.
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
