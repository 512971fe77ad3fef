"""What the content of an image file says, besides its pixels."""

from __future__ import annotations

import io
import os.path as osp
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

from PIL import Image

from toast_mm.datasets.loading import EXIF_ORIENTATION

GIGANTIC = 89_478_485  # pixels; Pillow warns from here on
TINY = 8  # pixels of a side
LOSSY = ('JPEG', 'MPO')


@dataclass
class Content:
    """What an image file holds.

    Attributes:
        format: Pillow's name of the format, or '' if Pillow cannot read it.
        mode: Pillow's name of the mode.
        size: Width and height as stored.
        notes: Kinds of findings, with a sentence each.
    """

    format: str = ''
    mode: str = ''
    size: tuple[int, int] = (0, 0)
    notes: list[tuple[str, str]] = field(default_factory=list)

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.size[0] * self.size[1]


def read_content(content: bytes, path: str, is_mask: bool = False) -> Content:
    """Look into a file, and decode it if it is not gigantic.

    Pillow tells truncated files, which OpenCV fills with grey.

    Args:
        content: Bytes of the file.
        path: Its name, for the suffix.
        is_mask: Whether it is a mask, in which palettes and single bits are as usual as in files
            of other pixels.
    """
    found = Content()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of Pillow about large images and odd metadata
            with Image.open(io.BytesIO(content)) as image:
                found = Content(image.format or '', image.mode, image.size)
                found.notes += _notes(image, path, is_mask)
                if found.pixels <= GIGANTIC:
                    image.load()
    except Image.DecompressionBombError:
        found.notes.append(('gigantic', f'more than {2 * GIGANTIC:,} pixels'))
    except Image.UnidentifiedImageError:
        pass  # the loader of the data set decides
    except Exception as error:  # Pillow raises many kinds
        found.notes.append(('truncated', f'its pixels are cut off or damaged: {error}'))
    return found


def _notes(image: Image.Image, path: str, is_mask: bool) -> Iterator[tuple[str, str]]:
    width, height = image.size
    suffix = osp.splitext(path)[1].lower()
    stated = Image.registered_extensions().get(suffix)
    if stated and stated != image.format and {stated, image.format} != {'JPEG', 'MPO'}:
        yield 'suffix', f'it is a {image.format} file'
    if width * height > GIGANTIC:
        yield 'gigantic', f'{width} x {height} pixels; they were not decoded here'
    if min(width, height) < TINY:
        yield 'tiny', f'{width} x {height} pixels'
    frames = getattr(image, 'n_frames', 1)
    if frames > 1 and image.format != 'MPO':  # the second picture of an MPO is for 3D or a preview
        yield 'animation', f'{frames} pictures, of which the first is read'
    if is_mask:
        if image.format in LOSSY:
            yield 'lossy mask', f'{image.format} changes values near edges: save masks as PNG'
        return
    orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    if orientation in range(2, 9):
        yield 'EXIF orientation', f'orientation {orientation}: mmcv turns it when it reads it'
    if image.mode == 'CMYK':
        yield 'CMYK', 'colours for print, which are converted without their profile'
    elif image.mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa') or 'transparency' in image.info:
        yield 'alpha', 'transparency is dropped, which shows the colours below it'
    elif image.mode == 'P':
        yield 'palette', f'a palette of at most 256 colours in a {image.format} file'
    elif image.mode == '1':
        yield '1 bit', 'black and white only'
