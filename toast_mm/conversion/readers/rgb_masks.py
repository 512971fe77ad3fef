"""Masks whose colours are the classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toast_mm.conversion.classes import RGB
from toast_mm.conversion.items import (
    Annotations,
    Canvas,
    ConversionError,
    Item,
    Painted,
    relative_name,
)
from toast_mm.datasets.passed_over import IMAGES

SHOWN = 5  # foreign colours of a file that are named


def read_rgb_masks(
    images: Path, masks: Path, palette: Mapping[str, RGB | None], mask_suffix: str = ''
) -> Annotations:
    """Pair images with masks of the same relative path.

    Args:
        images: Folder of the images.
        masks: Folder of the masks.
        palette: Colours of all classes.
        mask_suffix: What the name of a mask has after that of its image, such as ``'_mask'``; with
            the suffix of the files, if there are others, such as ``'_mask.png'``.

    Raises:
        ConversionError: A class has no colour, masks have other colours, or there is no mask.
    """
    missing = [name for name, colour in palette.items() if colour is None]
    if missing:
        raise ConversionError(f'the palette has no colour for {", ".join(missing)}')
    colours = {name: colour for name, colour in palette.items() if colour is not None}
    found = Annotations(classes=[*colours], colours=colours)
    ending, _, kind = mask_suffix.partition('.')
    mask_of: dict[str, Path] = {}
    for mask in _images(masks):
        name = relative_name(mask, masks)
        if name.endswith(ending) and (not kind or mask.suffix == f'.{kind}'):
            name = name.removesuffix(ending)
            if name in mask_of:
                raise ConversionError(f'{mask_of[name]} and {mask} are masks of one image')
            mask_of[name] = mask
    if not mask_of:
        raise ConversionError(f'{masks} has no masks named IMAGE{mask_suffix}')
    foreign: list[str] = []
    same = images.resolve() == masks.resolve()
    for image in _images(images):
        if same and image in mask_of.values():
            continue
        name = relative_name(image, images)
        if name not in mask_of:
            found.skip(image, 'it has no mask')
            continue
        layer = ColourMask(mask_of.pop(name), colours)
        complaint, size = layer.check()
        foreign += [complaint] if complaint else []
        found.items.append(Item(image, name, str(layer.path), size, [layer]))
    for mask in mask_of.values():
        found.skip(mask, 'it has no image')
    if foreign:
        raise ConversionError('\n'.join(foreign))
    return found


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ConversionError(f'{folder} is not a folder')
    return [path for path in sorted(folder.rglob('*')) if path.suffix.lower() in IMAGES]


@dataclass
class ColourMask:
    """A mask in colours: a layer that covers the whole image."""

    path: Path
    colours: Mapping[str, RGB]
    present: list[str] = field(default_factory=list)

    def labels(self) -> list[str]:
        """Classes in the mask, once it is checked."""
        return self.present

    def check(self) -> tuple[str | None, tuple[int, int]]:
        """Complaint about foreign colours, if there are some, and width and height."""
        codes = self._codes()
        known = np.array([_code(colour) for colour in self.colours.values()])
        values, first, counts = np.unique(codes, return_index=True, return_counts=True)
        self.present = [
            name for name, code in zip(self.colours, known, strict=True) if code in values
        ]
        foreign = np.flatnonzero(~np.isin(values, known))
        size = codes.shape[1], codes.shape[0]
        if not foreign.size:
            return None, size
        foreign = foreign[np.argsort(-counts[foreign], kind='stable')]
        parts = []
        for index in foreign[:SHOWN]:
            code, (y, x) = int(values[index]), divmod(int(first[index]), size[0])
            colour = f'{code >> 16} {code >> 8 & 255} {code & 255}'
            parts.append(f'{colour} in {counts[index]} pixels, first at x={x} y={y}')
        more = f'; and {len(foreign) - SHOWN} more colours' if len(foreign) > SHOWN else ''
        return f'{self.path} has colours that are no class: {"; ".join(parts)}{more}', size

    def paint(self, canvas: Canvas, numbers: Mapping[str, int]) -> Painted:
        """Paint the numbers of its colours."""
        codes = self._codes()
        for name, colour in self.colours.items():
            if name in numbers:
                canvas[codes == _code(colour)] = numbers[name]
        return Painted()

    def _codes(self) -> NDArray[np.int64]:
        try:
            with Image.open(self.path) as image:
                pixels = np.asarray(image.convert('RGB'), np.int64)
        except Exception as error:
            raise ConversionError(f'{self.path} cannot be decoded: {error}') from error
        return pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]


def _code(colour: RGB) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]
