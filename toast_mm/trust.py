"""Whose files may run code: nobody's, unless the caller says so.

Every reader of this package takes a file as data. A file whose reading would run code is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

VARIABLE = 'TOAST_MM_TRUST_FILES'
WAY_OUT = (
    'if you trust whoever wrote it, read it inside `with toast_mm.checkpoint.trusted():`, or set '
    f'{VARIABLE}=1'
)

_trusted = ContextVar('trusted', default=False)


class UntrustedFileError(RuntimeError):
    """Reading a file would run code; the message says which file and what would be right."""


@contextmanager
def trusted() -> Iterator[None]:
    """Let files run code while they are read, as mmengine does without this package.

    For files of one's own: pickled checkpoints and annotations, and configs that are kept in
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
