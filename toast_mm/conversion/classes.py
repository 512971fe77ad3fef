"""Names, colours and numbers of classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from toast_mm.conversion.items import ConversionError
from toast_mm.text_files import read_text

RGB = tuple[int, int, int]
IGNORED = 255  # number of pixels without a class, as mmsegmentation has it


def read_classes(path: str | Path) -> dict[str, RGB | None]:
    """Read a file with a class per line: ``name``, or ``name R G B``.

    Names may contain spaces. Empty lines and lines that start with ``#`` are skipped.

    Returns:
        The colours by name, in the order of the file; None for a class without a colour.

    Raises:
        ConversionError: A name or a colour occurs twice, a colour is wrong, or there is no class.
        NotTextError: It is no text.
        OSError: There is no such file.
    """
    classes: dict[str, RGB | None] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith('#'):
            continue
        colour = _colour(words[-3:]) if len(words) > 3 else None
        name = ' '.join(words[:-3] if colour else words)
        if name in classes:
            raise ConversionError(f'{path}:{number}: the class {name!r} is there already')
        if colour and colour in classes.values():
            other = next(known for known in classes if classes[known] == colour)
            raise ConversionError(f'{path}:{number}: {other!r} has the colour of {name!r} already')
        if colour and max(colour) > 255:
            raise ConversionError(f'{path}:{number}: {line.strip()!r} has a colour beyond 255')
        classes[name] = colour
    if not classes:
        raise ConversionError(f'{path} names no class')
    return classes


def _colour(words: list[str]) -> RGB | None:
    if not all(word.isdecimal() for word in words):
        return None
    red, green, blue = map(int, words)
    return red, green, blue


def hex_colour(text: str | None) -> RGB | None:
    """Colour of ``'#rrggbb'``; None if the text is another."""
    digits = (text or '').lstrip('#')
    try:
        red, green, blue = bytes.fromhex(digits)
    except ValueError:
        return None
    return red, green, blue


def lines_of(names: Iterable[str], colours: Mapping[str, RGB]) -> str:
    """Content of a file that :func:`read_classes` reads; only with a colour for every class."""
    names = list(names)
    if not all(name in colours for name in names):
        return ''.join(f'{name}\n' for name in names)
    return ''.join(f'{name} {" ".join(map(str, colours[name]))}\n' for name in names)


def number_classes(
    found: Iterable[str], order: Iterable[str], background: str | None, ignored: Iterable[str] = ()
) -> dict[str, int]:
    """Number the classes of a segmentation.

    Args:
        found: Labels in the annotations.
        order: Classes that come first, in this order; others follow by name.
        background: Name of class 0, or None.
        ignored: Labels that get the number 255.

    Raises:
        ConversionError: There are more than 255 classes.
    """
    ignored = set(ignored)
    first = [background] if background is not None else []
    names = list(dict.fromkeys([*first, *order, *sorted(found)]))
    names = [name for name in names if name not in ignored]
    if len(names) > IGNORED:
        raise ConversionError(f'{len(names)} classes: a mask has room for {IGNORED}')
    return {name: number for number, name in enumerate(names)} | dict.fromkeys(ignored, IGNORED)
