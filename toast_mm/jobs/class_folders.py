"""A folder of images per class, with or without folders of splits above them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from toast_mm.jobs.image_files import folders_in, images_in, no_images, other_images, splits_in
from toast_mm.jobs.own_data import DataError, OwnData, complete


@dataclass
class ClassFolders(OwnData):
    """Images in a folder per class: data for a classifier."""

    task = 'classification'

    def dataset(self) -> dict[str, Any]:
        """As the base class."""
        return dict(data_root=str(self.root), metainfo=dict(classes=self.classes))

    def place(self, folder: str) -> dict[str, Any]:
        """As the base class."""
        return dict(data_prefix=folder) if folder else {}


def read_class_folders(root: Path, held_out: float, seed: int) -> ClassFolders:
    """Read ``CLASS/**/IMAGE``, or ``{train,val,test}/CLASS/**/IMAGE``.

    Args:
        root: The folder.
        held_out: Share of the training images to validate on if there is no ``val``.
        seed: Seed of the draw.

    Raises:
        DataError: There are fewer than two classes, a class without images, or a split with other
            classes than ``train``.
    """
    splits = splits_in(root)
    if 'train' in splits and images_in(root / splits['train'], below=False):
        splits = {}  # a class that is called train
    folders = splits or {'train': ''}
    found = {split: _images_by_class(root / folder) for split, folder in folders.items()}
    top, classes = root / folders['train'], sorted(found['train'])
    if len(classes) < 2:
        there = f'one folder, {classes[0]!r}' if classes else 'no folders'
        raise DataError(
            f'{top} has {there}: a classifier needs a folder of images for each of two or more '
            'classes; a segmentor needs the folders images and annotations, and classes.txt'
        )
    for name, images in found['train'].items():
        if not images:
            raise DataError(no_images(top / name))
    for split in folders:
        _check_classes(found[split], root / folders[split], top, classes)
    samples = {
        split: [
            f'{os.path.join(folder, name, image)} {label}'
            for label, name in enumerate(classes)
            for image in found[split][name]
        ]
        for split, folder in folders.items()
    }
    labels = [{name} for name in classes for _ in found['train'][name]]
    notes = _left_out(top, classes) + complete(samples, labels, held_out, seed)
    if 'val' not in folders:
        folders = {}
        _check_names(samples)
    elif 'test' not in folders:
        folders['test'] = folders['val']
    return ClassFolders(root, classes, samples, folders, notes)


def _images_by_class(folder: Path) -> dict[str, list[str]]:
    return {name: images_in(folder / name) for name in folders_in(folder)}


def _check_classes(
    found: dict[str, list[str]], folder: Path, top: Path, classes: list[str]
) -> None:
    """Check that a split has the folders of ``train``, since they number the classes."""
    if lacking := sorted({*classes} - {*found}):
        raise DataError(
            f'{folder / lacking[0]} does not exist: {folder} must have the folders of {top}, which '
            'number the classes; a folder may be empty'
        )
    if besides := sorted({*found} - {*classes}):
        raise DataError(f'{folder / besides[0]} is of no class: {top} has no such folder')
    if not any(found.values()):
        raise DataError(no_images(folder))


def _check_names(samples: dict[str, list[str]]) -> None:
    """Check that a list of lines can hold the names."""
    for line in chain(*samples.values()):
        if line != line.strip() or len(line.splitlines()) > 1:
            raise DataError(
                f'{line!r}: a list cannot hold a name with a line break or a first space'
            )


def _left_out(top: Path, classes: list[str]) -> list[str]:
    """Sentences about images that are not used."""
    beside = images_in(top, below=False)
    notes = [f'{top} has {len(beside)} images beside the class folders, not used'] if beside else []
    others = {name: other_images(top / name) for name in classes}
    return notes + [
        f'{top / name} has {files}, not used' for name, files in others.items() if files
    ]
