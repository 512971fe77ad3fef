"""Files in the folders of a data set that the data set skips."""

from __future__ import annotations

import os
import os.path as osp
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

IMAGES = (
    '.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.pgm', '.tif', '.tiff', '.webp', '.gif', '.jp2',
    '.heic', '.avif', '.npy', '.exr',
)  # fmt: skip


@dataclass
class PassedOver:
    """The files in a folder that a data set skips.

    Attributes:
        folder: The folder.
        wanted: The suffixes that the data set reads.
        suffixes: Number of skipped files by suffix, for suffixes of images only.
        dead_links: Links without a target; each would be an image or a folder.
        first: The first file that is skipped.
        without_mask: Number of images that have the right suffix but no mask.
    """

    folder: str
    wanted: tuple[str, ...]
    suffixes: Counter[str] = field(default_factory=Counter)
    dead_links: list[str] = field(default_factory=list)
    first: str = ''
    without_mask: int = 0

    def __bool__(self) -> bool:
        return bool(self.suffixes or self.dead_links or self.without_mask)

    def __str__(self) -> str:
        ordered = sorted(self.suffixes.items(), key=lambda item: (-item[1], item[0]))
        parts = [f'{number} {suffix}' for suffix, number in ordered]
        if self.dead_links:
            parts.append(f'{len(self.dead_links)} dead links such as {self.dead_links[0]}')
        parts += [f'{self.without_mask} images without a mask'] * bool(self.without_mask)
        asked = f'asked for: {", ".join(self.wanted)}; first: {self.first}'
        return f'{", ".join(parts)} ({asked})'


def passed_over(dataset: Any) -> PassedOver | None:
    """Find the files that a data set skips; None if it does not list local folders.

    This covers mmseg's ``BaseSegDataset``, mmpretrain's ``CustomDataset`` and their subclasses. It
    lists each folder once and opens no file.
    """
    ann_file = getattr(dataset, 'ann_file', None)
    if ann_file and not osp.isdir(ann_file):
        return None  # a list of files: nothing is skipped
    if hasattr(dataset, 'img_suffix'):
        folder = (dataset.data_prefix or {}).get('img_path')
        wanted: tuple[str, ...] = (dataset.img_suffix,)
        takes: Callable[[str], bool] = lambda name: name.endswith(dataset.img_suffix)  # noqa: E731
    elif hasattr(dataset, 'extensions') and hasattr(dataset, 'is_valid_file'):
        folder, wanted = dataset.img_prefix, tuple(sorted(dataset.extensions))
        takes = dataset.is_valid_file
    else:
        return None
    if not folder or not osp.isdir(folder):
        return None
    found = PassedOver(str(folder), wanted)
    masks = _masks(dataset)
    start = osp.join(str(folder), '')
    for path, dead in _files(start):
        name = osp.basename(path)
        suffix = osp.splitext(name)[1]
        if dead:
            if suffix and not takes(name) and suffix.lower() not in IMAGES:
                continue
            found.dead_links.append(path)
        elif takes(name):
            mask = path[: -len(wanted[0])] + getattr(dataset, 'seg_map_suffix', '')
            if masks is None or mask[len(start) :] in masks:
                continue
            found.without_mask += 1
        elif suffix.lower() in IMAGES:
            found.suffixes[suffix] += 1
        else:
            continue  # not an image, such as notes and lists
        found.first = min(found.first or path, path)
    found.dead_links.sort()
    return found


def _masks(dataset: Any) -> set[str] | None:
    """Files in the folder of masks, if it is a local one."""
    prefix = getattr(dataset, 'data_prefix', None)
    folder = prefix.get('seg_map_path') if isinstance(prefix, dict) else None
    if not folder or not osp.isdir(folder):
        return None
    start = osp.join(folder, '')
    return {path[len(start) :] for path, dead in _files(start) if not dead}


def _files(folder: str) -> Iterator[tuple[str, bool]]:
    """Files below a folder that are not hidden, and whether each is a link without a target."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith('.'):
                continue
            if entry.is_dir():
                yield from _files(entry.path)
            elif entry.is_symlink():  # only links need a look at their target
                yield entry.path, not osp.exists(entry.path)
            else:
                yield entry.path, False
