"""Trust in files: no file may run code while it is read, unless the caller allows it.

All readers of this package treat a file as data. They refuse a file that would run code.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

VARIABLE = 'TOAST_MM_TRUST_FILES'
WAY_OUT = (
    'if you trust its author, read it inside `with toast_mm.checkpoint.trusted():`, or set '
    f'{VARIABLE}=1'
)

_trusted = ContextVar('trusted', default=False)


class UntrustedFileError(RuntimeError):
    """Reading a file would run code; the message names the file and a remedy."""


@contextmanager
def trusted() -> Iterator[None]:
    """Allow files to run code while they are read, as mmengine does without this package.

    Use this for your own files: pickled checkpoints and annotations, and configs that are stored in
    checkpoints. The environment variable ``TOAST_MM_TRUST_FILES=1`` does the same for a whole
    process.

    Example:
        >>> with toast_mm.checkpoint.trusted():
        ...     checkpoint = load_from_local('my_pickled_model.pth')
    """
    token = _trusted.set(True)
    try:
        yield
    finally:
        _trusted.reset(token)


def is_trusted() -> bool:
    """Whether files may run code here and now."""
    return _trusted.get() or os.environ.get(VARIABLE, '0') not in ('', '0')
