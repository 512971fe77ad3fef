"""Images and masks under the same names, with or without folders of splits."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from toast_mm.conversion import ConversionError, read_classes
from toast_mm.conversion.classes import IGNORED
from toast_mm.datasets import LoadAnnotations
from toast_mm.jobs.image_files import images_in, no_images, splits_in
from toast_mm.jobs.own_data import DataError, OwnData, complete

IMAGES, MASKS, CLASSES = 'images', 'annotations', 'classes.txt'


@dataclass
class ImageMasks(OwnData):
    """Images with a mask each, whose pixels are labels: data for a segmentor.

    Attributes:
        palette: R, G and B of every class, or None.
        suffixes: Suffix of the images, and of the masks.
    """

    task = 'segmentation'

    palette: list[tuple[int, int, int]] | None
    suffixes: tuple[str, str]

    def dataset(self) -> dict[str, Any]:
        """As the base class."""
        metainfo: dict[str, Any] = dict(classes=self.classes)
        if self.palette:
            metainfo['palette'] = [list(colour) for colour in self.palette]
        image, mask = self.suffixes
        suffixes = dict(img_suffix=image, seg_map_suffix=mask)
        return dict(type='BaseSegDataset', data_root=str(self.root), metainfo=metainfo, **suffixes)

    def place(self, folder: str) -> dict[str, Any]:
        """As the base class."""
        images, masks = (os.path.join(name, folder).rstrip(os.sep) for name in (IMAGES, MASKS))
        return dict(data_prefix=dict(img_path=images, seg_map_path=masks))


def read_image_masks(root: Path, held_out: float, seed: int) -> ImageMasks:
    """Read ``images/[SPLIT/]*.jpg``, ``annotations/[SPLIT/]*.png`` and ``classes.txt``.

    Args:
        root: The folder.
        held_out: Share of the training images to validate on if there is no ``val``.
        seed: Seed of the draw.

    Raises:
        DataError: An image has no mask or a mask no image, a mask has a label that is no class, or
            ``classes.txt`` is wrong.
    """
    if not (root / MASKS).is_dir():
        raise DataError(f'{root / MASKS} does not exist: it has a mask for every image')
    classes = _classes(root / CLASSES)
    suffixes = _suffix(root / IMAGES), _suffix(root / MASKS)
    folders = splits_in(root / IMAGES) or {'train': ''}
    samples = {}
    for split, folder in folders.items():
        names = _pairs(root / IMAGES / folder, root / MASKS / folder, suffixes)
        samples[split] = [os.path.join(folder, name) for name in names]
    paths = [root / MASKS / f'{name}{suffixes[1]}' for names in samples.values() for name in names]
    labels = _labels(paths, list(classes), root / CLASSES)
    seen = set().union(*labels)
    notes = [f'no mask has the label of class {name!r}' for name in classes if name not in seen]
    # Splits come in the order of `samples`, so the labels of training images are found by number.
    start = sum(len(samples[s]) for s in list(samples)[: list(samples).index('train')])
    of_train = labels[start : start + len(samples['train'])]
    notes += complete(samples, of_train, held_out, seed)
    if 'val' not in folders:
        folders = {}
    elif 'test' not in folders:
        folders['test'] = folders['val']
    colours = [colour for colour in classes.values() if colour]
    palette = colours if len(colours) == len(classes) else None
    return ImageMasks(root, list(classes), samples, folders, notes, palette, suffixes)


def _classes(path: Path) -> dict[str, Any]:
    """Colours, or None, by name."""
    if not path.is_file():
        raise DataError(
            f'{path} does not exist: it has a line per class, "name" or "name R G B", in the order '
            'of the labels in the masks'
        )
    try:
        classes = read_classes(path)
    except ConversionError as error:
        raise DataError(str(error)) from error
    if len(classes) < 2:
        raise DataError(f'{path} names one class: a segmentor needs two, such as a background')
    return classes


def _suffix(folder: Path) -> str:
    """The suffix of all images below a folder."""
    found = Counter(Path(name).suffix for name in images_in(folder))
    if not found:
        raise DataError(no_images(folder))
    if len(found) > 1:
        there = ', '.join(f'{number} {suffix}' for suffix, number in found.most_common())
        raise DataError(f'{folder} has {there}: mmseg reads one suffix, so convert the others')
    return next(iter(found))


def _pairs(images: Path, masks: Path, suffixes: tuple[str, str]) -> list[str]:
    """Names, without suffix, that both folders have."""
    both = (images, suffixes[0], 'image'), (masks, suffixes[1], 'mask')
    names = [{name.removesuffix(s) for name in images_in(folder)} for folder, s, _ in both]
    for one, other in ((0, 1), (1, 0)):
        if alone := sorted(names[one] - names[other]):
            (folder, suffix, what), (there, ending, lacking) = both[one], both[other]
            raise DataError(
                f'{len(alone)} of {len(names[one])} {what}s have no {lacking}: there is '
                f'{folder / alone[0]}{suffix}, but no {there / alone[0]}{ending}'
            )
    if not names[0]:
        raise DataError(no_images(images))
    return sorted(names[0])


def _labels(paths: Sequence[Path], classes: list[str], listed: Path) -> list[set[str]]:
    """Names of the classes in every mask."""
    load = LoadAnnotations()
    found = []
    for path in track(paths, 'reading masks', transient=True, disable=not sys.stderr.isatty()):
        try:
            mask = load.transform(dict(seg_map_path=str(path)))['gt_seg_map']
        except ValueError as error:
            raise DataError(str(error)) from error
        labels = np.flatnonzero(np.bincount(mask.ravel(), minlength=IGNORED + 1)[:IGNORED])
        if labels.size and labels[-1] >= len(classes):
            raise DataError(
                f'{path} has the label {labels[-1]}, but {listed} names {len(classes)} classes: '
                f'labels are 0 to {len(classes) - 1}, and {IGNORED} where there is no class'
            )
        found.append({classes[label] for label in labels})
    return found
