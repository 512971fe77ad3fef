"""Images in folders, as data sets of mm find them: hidden files and folders do not count."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from toast_mm.conversion.readers.folders import SPLIT_NAMES
from toast_mm.datasets.passed_over import IMAGES
from toast_mm.jobs.own_data import DataError

# Also in configs/_base_/datasets/class_folders_224x224.py.
SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')


def folders_in(folder: Path) -> list[str]:
    """Names of the folders in a folder."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith('.'))


def images_in(folder: Path, below: bool = True, suffixes: Iterable[str] = SUFFIXES) -> list[str]:
    """Paths of the images in a folder, relative to it; with ``below`` also in its folders."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if below and not name.startswith('.')]
        for name in names:
            path = os.path.join(place, name)
            is_image = name.lower().endswith(tuple(suffixes)) and not name.startswith('.')
            if is_image and os.path.isfile(path):
                found.append(os.path.relpath(path, folder))
    return sorted(found)


def splits_in(folder: Path) -> dict[str, str]:
    """Folders named as splits (train, val, test and the like), by split.

    Raises:
        DataError: There are two of a split, or others without ``train``.
    """
    splits: dict[str, str] = {}
    for name in folders_in(folder):
        split = SPLIT_NAMES.get(name.lower())
        if split in splits:
            raise DataError(f'{folder} has {splits[split]} and {name}, which are both {split}')
        if split is not None:
            splits[split] = name
    if splits and 'train' not in splits:
        raise DataError(f'{folder} has {" and ".join(splits.values())}, but no folder train')
    return splits


def other_images(folder: Path) -> str:
    """Images of formats that are not read below a folder, as ``3 .heic``; empty without them."""
    others = images_in(folder, suffixes={*IMAGES} - {*SUFFIXES})
    found = Counter(Path(name).suffix.lower() for name in others)
    return ', '.join(f'{number} {suffix}' for suffix, number in sorted(found.items()))


def no_images(folder: Path) -> str:
    """Sentence about a folder without images."""
    others = other_images(folder)
    return f'{folder} has no images ({", ".join(SUFFIXES)}){f", but {others}" if others else ""}'
