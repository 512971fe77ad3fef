"""Files in the folders of a data set that it does not take."""

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
    """What one listing of a folder finds beside the files that are asked for.

    Attributes:
        folder: The folder.
        wanted: The suffixes that are asked for.
        suffixes: How many files there are of each other suffix that an image can have.
        dead_links: How many links lead nowhere.
        first: The first file that is passed over.
        without_mask: How many of the images that are taken have no mask in the folder of masks.
    """

    folder: str
    wanted: tuple[str, ...]
    suffixes: Counter[str] = field(default_factory=Counter)
    dead_links: int = 0
    first: str = ''
    without_mask: int = 0

    def __bool__(self) -> bool:
        return bool(self.suffixes or self.dead_links or self.without_mask)

    def __str__(self) -> str:
        ordered = sorted(self.suffixes.items(), key=lambda item: (-item[1], item[0]))
        parts = [f'{number} {suffix}' for suffix, number in ordered]
        parts += [f'{self.dead_links} dead links'] * bool(self.dead_links)
        parts += [f'{self.without_mask} images without a mask'] * bool(self.without_mask)
        asked = f'asked for: {", ".join(self.wanted)}; first: {self.first}'
        return f'{", ".join(parts)} ({asked})'


def passed_over(dataset: Any) -> PassedOver | None:
    """What a data set that lists folders of this machine passes over; None of any other.

    Knows mmseg's ``BaseSegDataset`` and mmpretrain's ``CustomDataset`` and their subclasses, and
    reads each folder once, without asking for more than the names of files.
    """
    ann_file = getattr(dataset, 'ann_file', None)
    if ann_file and not osp.isdir(ann_file):
        return None  # a list says which files are meant
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
            found.dead_links += 1
        elif takes(name):
            mask = path[: -len(wanted[0])] + getattr(dataset, 'seg_map_suffix', '')
            if masks is None or mask[len(start) :] in masks:
                continue
            found.without_mask += 1
        elif suffix.lower() in IMAGES:
            found.suffixes[suffix] += 1
        else:
            continue  # notes, lists, thumbnails of a file manager
        found.first = min(found.first or path, path)
    return found


def _masks(dataset: Any) -> set[str] | None:
    """The files in the folder of masks, if there is one on this machine."""
    prefix = getattr(dataset, 'data_prefix', None)
    folder = prefix.get('seg_map_path') if isinstance(prefix, dict) else None
    if not folder or not osp.isdir(folder):
        return None
    start = osp.join(folder, '')
    return {path[len(start) :] for path, dead in _files(start) if not dead}


def _files(folder: str) -> Iterator[tuple[str, bool]]:
    """Files below a folder that are not hidden, and whether each is a link that leads nowhere."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith('.'):
                continue
            if entry.is_dir():
                yield from _files(entry.path)
            elif entry.is_symlink():  # only links are asked where they lead
                yield entry.path, not osp.exists(entry.path)
            else:
                yield entry.path, False
