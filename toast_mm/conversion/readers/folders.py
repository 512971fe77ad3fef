"""A folder per class."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from toast_mm.conversion.items import Annotations, ConversionError, Item, relative_name
from toast_mm.datasets.passed_over import IMAGES

SPLIT_NAMES = {
    'train': 'train', 'training': 'train',
    'val': 'val', 'valid': 'val', 'validation': 'val', 'dev': 'val',
    'test': 'test', 'testing': 'test',
}  # fmt: skip


def read_folders(source: Path) -> Annotations:
    """Read ``CLASS/**/IMAGE``, or ``SPLIT/CLASS/**/IMAGE`` if all folders are named as splits.

    Raises:
        ConversionError: There is no such folder, or no folder in it.
    """
    if not source.is_dir():
        raise ConversionError(f'{source} is not a folder')
    tops = _folders(source)
    if not tops:
        raise ConversionError(f'{source} has no folders, which would be the classes')
    found = Annotations()
    is_split = all(top.name.lower() in SPLIT_NAMES for top in tops)
    for top in tops:
        split = SPLIT_NAMES[top.name.lower()] if is_split else None
        for folder in _folders(top) if is_split else [top]:
            for file in _images(folder.rglob('*'), found):
                name = relative_name(file, folder)
                found.items.append(Item(file, name, str(file), label=folder.name, split=split))
    for place in [source, *(tops if is_split else [])]:
        for file in _images(place.iterdir(), found):
            found.skip(file, 'it is in no folder of a class')
    return found


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith('.'))


def _images(paths: Iterable[Path], found: Annotations) -> list[Path]:
    """Files that are images by their suffix; dead links are skipped."""
    images = [p for p in sorted(paths) if p.suffix.lower() in IMAGES and not p.is_dir()]
    for path in images:
        if not path.exists():
            found.skip(path, 'it is a link without a target')
    return [path for path in images if path.exists()]
