"""Image files: their sizes as training reads them, and copies."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from toast_mm.conversion.items import ConversionError
from toast_mm.files import make_folder

EXIF_ORIENTATION = 0x0112
# Formats that mmpretrain's and mmsegmentation's data sets read as they are; others become PNG.
SUFFIXES = {'JPEG': '.jpg', 'MPO': '.jpg', 'PNG': '.png', 'BMP': '.bmp', 'TIFF': '.tif'}


@dataclass
class ImageFile:
    """What the header of an image says.

    Attributes:
        stored: Width and height in the file.
        orientation: EXIF orientation, 1 to 8; with 5 to 8 width and height change places.
        suffix: Suffix of a copy.
        as_is: Whether data sets read this format, so that a copy can stay as it is.
    """

    stored: tuple[int, int]
    orientation: int
    suffix: str
    as_is: bool = True

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height as viewers show it and mmcv reads it."""
        return self.stored[::-1] if self.orientation > 4 else self.stored


def look_at(path: Path) -> ImageFile:
    """Read the header of an image.

    Raises:
        ConversionError: There is no such file, or it is no image.
    """
    if not path.is_file():
        raise ConversionError('there is no such image')
    try:
        with Image.open(path) as image:
            orientation = image.getexif().get(EXIF_ORIENTATION, 1)
            orientation = orientation if orientation in range(1, 9) else 1
            # Pillow turns a TIFF itself, and states the size after that.
            turned = image.format == 'TIFF' and orientation > 4
            return ImageFile(
                image.size[::-1] if turned else image.size,
                orientation,
                SUFFIXES.get(image.format or '', '.png'),
                image.format in SUFFIXES,
            )
    except Exception as error:  # Pillow raises many kinds for broken files
        raise ConversionError(f'it cannot be opened as an image: {error}') from error


def copy_image(source: Path, target: Path, kept: bool, link: bool = False) -> None:
    """Write an image that data sets read.

    Args:
        source: The file.
        target: The copy.
        kept: Whether the content stays as it is. If not, it becomes a PNG, turned as its EXIF
            orientation says.
        link: Make a link instead of a copy if the content stays.

    Raises:
        ConversionError: The image is broken.
        OSError: The copy cannot be written.
    """
    make_folder(target.parent)
    target.unlink(missing_ok=True)  # it may be a link, which a copy would write through
    if kept and link:
        os.symlink(os.path.relpath(source.resolve(), target.parent.resolve()), target)
    elif kept:
        shutil.copyfile(source, target)
    else:
        _write_png(source, target)


def _write_png(source: Path, target: Path) -> None:
    try:
        with Image.open(source) as image:
            upright = ImageOps.exif_transpose(image)
            plain = upright.mode in ('1', 'L', 'P', 'RGB', 'I', 'I;16')
            pixels = upright if plain else upright.convert('RGB')
            pixels.load()
    except Exception as error:
        raise ConversionError(f'{source} cannot be decoded: {error}') from error
    pixels.save(target, format='PNG', exif=b'')
