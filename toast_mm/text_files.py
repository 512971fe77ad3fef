"""Reading text files, with errors that name the file."""

from __future__ import annotations

from pathlib import Path


class NotTextError(ValueError):
    """A file that should be text is none; the message names it and the place."""


def read_text(path: str | Path) -> str:
    """Read a file of UTF-8, with or without a byte order mark. Line ends become ``\\n``.

    Raises:
        NotTextError: It holds something else.
        OSError: There is no such file.
    """
    try:
        return Path(path).read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise NotTextError(
            f'{path} is not text in UTF-8: {error.reason} at byte {error.start}; save it as UTF-8'
        ) from error
