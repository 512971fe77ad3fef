"""Files that would leave a mark if their code ran."""

from __future__ import annotations

import os
from pathlib import Path


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path | str) -> None:
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def code(mark: Path | str) -> str:
    """A statement that makes a folder."""
    return f'__import__("os").mkdir({str(mark)!r})'


def yaml(mark: Path | str) -> str:
    """A YAML value that makes a folder."""
    return f'!!python/object/apply:os.mkdir [{mark}]'
