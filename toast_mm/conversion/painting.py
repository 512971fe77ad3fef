"""From annotations to masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from toast_mm.conversion.classes import IGNORED
from toast_mm.conversion.images import ImageFile
from toast_mm.conversion.items import EMPTY, ConversionError, Item

# How numpy turns an array as the EXIF orientation turns an image.
_TURNS = {
    1: lambda mask: mask,
    2: lambda mask: mask[:, ::-1],
    3: lambda mask: mask[::-1, ::-1],
    4: lambda mask: mask[::-1],
    5: lambda mask: mask.T,
    6: lambda mask: np.rot90(mask, -1),
    7: lambda mask: mask[::-1, ::-1].T,
    8: lambda mask: np.rot90(mask),
}


@dataclass
class Mask:
    """A mask, and what was notable in it.

    Attributes:
        pixels: Numbers of classes, ``(H, W)``, in the orientation in which mmcv reads the image.
        outside: Number of layers that reach beyond the image, whose rest is cut off.
        nothing: Number of layers without a pixel in the image.
        covered: Number of pixels that a later annotation of another class took.
    """

    pixels: NDArray[np.uint8]
    outside: int = 0
    nothing: int = 0
    covered: int = 0
    counts: dict[int, int] = field(default_factory=dict)


def check_size(item: Item, file: ImageFile, stored: bool) -> None:
    """Check that an annotation is for an image of this size.

    Args:
        item: The image with its annotation.
        file: Header of the image.
        stored: Whether coordinates refer to the pixels as they are stored, before the image is
            turned by its EXIF orientation.

    Raises:
        ConversionError: The sizes differ.
    """
    expected, other = (file.stored, file.shown) if stored else (file.shown, file.stored)
    if item.size in (None, expected):
        return
    assert item.size is not None
    reason = ''
    if item.size == other:
        reason = (
            f', turned by its EXIF orientation {file.orientation}: the annotation fits '
            f'--exif {"displayed" if stored else "stored"}'
        )
    raise ConversionError(
        f'it is annotated as {item.size[0]} x {item.size[1]} pixels, but has '
        f'{expected[0]} x {expected[1]}{reason}'
    )


def paint(
    item: Item, file: ImageFile, numbers: Mapping[str, int], blank: int, stored: bool = False
) -> Mask:
    """Paint the mask of an image; a later annotation covers an earlier one.

    Args:
        item: The image with its annotation.
        file: Header of the image.
        numbers: Number of every class; labels without a number are left out.
        blank: Number of pixels without annotation.
        stored: As for :func:`check_size`.

    Raises:
        ConversionError: An annotation does not fit the image.
    """
    width, height = file.stored if stored else file.shown
    canvas = np.full((height, width), EMPTY, np.int64)
    done = [layer.paint(canvas, numbers) for layer in item.layers]
    canvas[canvas == EMPTY] = blank
    pixels = canvas.astype(np.uint8)
    if stored:
        pixels = np.ascontiguousarray(_TURNS[file.orientation](pixels))
    counts = np.bincount(pixels.ravel(), minlength=IGNORED + 1)
    return Mask(
        pixels,
        outside=sum(layer.outside and not layer.nothing for layer in done),
        nothing=sum(layer.nothing for layer in done),
        covered=sum(layer.covered for layer in done),
        counts={number: int(count) for number, count in enumerate(counts) if count},
    )
