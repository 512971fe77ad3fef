"""A table of paths and classes."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from toast_mm.conversion.items import Annotations, ConversionError, Item, relative_name
from toast_mm.conversion.readers.folders import SPLIT_NAMES
from toast_mm.text_files import read_text

COLUMNS = ('path', 'label', 'split')


def read_csv(
    path: Path,
    images: Path | None = None,
    columns: dict[str, str] | None = None,
    delimiter: str = ',',
) -> Annotations:
    """Read a table.

    Without a header, the columns are path, label and, if there is a third one, split.

    Args:
        path: The table.
        images: Folder that paths are relative to. Defaults to the folder of the table.
        columns: Names of the columns ``'path'``, ``'label'`` and ``'split'`` in the header, where
            they differ from these.
        delimiter: What separates the columns. Defaults to a comma.

    Raises:
        ConversionError: A column is missing, a split is unknown, or an image has two classes.
        NotTextError: It is no text.
        OSError: There is no such file.
    """
    folder = images or path.parent
    reader = csv.reader(io.StringIO(read_text(path)), delimiter=delimiter)
    stripped = ([word.strip() for word in row] for row in reader)
    rows = [(reader.line_num, row) for row in stripped if any(row)]
    if not rows:
        raise ConversionError(f'{path} is empty')
    header = _header(path, rows[0][1], columns or {})
    if header is not None:
        rows = rows[1:]
    found = Annotations()
    lines: dict[str, tuple[int, str]] = {}
    for number, row in rows:
        where = f'{path}:{number}'
        taken = header or {name: place for place, name in enumerate(COLUMNS) if place < len(row)}
        if max(taken.values()) >= len(row) or (header is None and len(row) not in (2, 3)):
            raise ConversionError(f'{where} has {len(row)} columns: {delimiter.join(row)}')
        values = {name: row[place] for name, place in taken.items()}
        stated, label = values['path'], values['label']
        if not stated or not label:
            found.skip(where, f'it has no {"class" if stated else "path"}')
            continue
        if stated in lines:
            line, other = lines[stated]
            if other != label:
                raise ConversionError(
                    f'{where}: {stated} is {label!r}, but {other!r} in line {line}'
                )
            found.skip(where, f'{stated} is in line {line} already')
            continue
        lines[stated] = number, label
        split = values.get('split')
        if split and split.lower() not in SPLIT_NAMES:
            raise ConversionError(f'{where}: {split!r} is no split: {", ".join(SPLIT_NAMES)}')
        image = folder / stated
        item = Item(image, relative_name(image, folder), where, label=label)
        item.split = SPLIT_NAMES[split.lower()] if split else None
        found.items.append(item)
    return found


def _header(path: Path, first: list[str], columns: dict[str, str]) -> dict[str, int] | None:
    """Places of the columns if the first row is a header."""
    names = {name: columns.get(name, name) for name in COLUMNS}
    if not columns and not {'path', 'label'} & {*first}:
        return None
    for name in ('path', 'label', *columns):
        if names[name] not in first:
            raise ConversionError(
                f'{path} has no column {names[name]!r}, but {", ".join(first)}: say which '
                f'one it is with --{name}-column'
            )
    return {name: first.index(title) for name, title in names.items() if title in first}
