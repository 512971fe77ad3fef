"""Finding out in which layout the data of a user is."""

from __future__ import annotations

import os
from pathlib import Path

from toast_mm.jobs.class_folders import read_class_folders
from toast_mm.jobs.image_masks import CLASSES, IMAGES, MASKS, read_image_masks
from toast_mm.jobs.own_data import DataError, OwnData


def read_layout(root: str | Path, held_out: float = 0.2, seed: int = 0) -> OwnData:
    """Find out what is in a folder, check it, and draw validation images if it has none.

    Layouts are those of mmpretrain's ``CustomDataset`` and mmseg's ``BaseSegDataset``::

        ROOT/CLASS/*.jpg                  ROOT/images/*.jpg
        ROOT/{train,val,test}/CLASS/*     ROOT/images/{train,val,test}/*.jpg
                                          ROOT/annotations/..., ROOT/classes.txt

    Args:
        root: The folder.
        held_out: Share of the training images to draw for validation if there is no ``val``.
        seed: Seed of the draw.

    Raises:
        DataError: It is in none of these layouts, or has too few classes, empty classes, images
            without masks, masks without images, or labels that are no classes.

    Example:
        >>> data = read_layout('flowers')
        >>> data.classes, len(data.samples['train'])
        (['daisy', 'rose', 'tulip'], 48)
    """
    root = Path(os.path.abspath(root))
    if not root.is_dir():
        raise DataError(f'{root} {"is no folder" if root.exists() else "does not exist"}')
    if not 0 < held_out < 1:
        raise DataError(f'held_out={held_out} must be a share between 0 and 1')
    dense = (root / IMAGES).is_dir() and ((root / MASKS).is_dir() or (root / CLASSES).is_file())
    return (read_image_masks if dense else read_class_folders)(root, held_out, seed)
