"""Images of any number of bands, such as those of satellites."""

from __future__ import annotations

import io
import os.path as osp
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio
from numpy.typing import NDArray

from toast_mm.datasets.loading import check_equal_sizes
from toast_mm.registry import TRANSFORMS

LAYOUTS = ('HWC', 'CHW')
DARKEST, BRIGHTEST = 2, 98  # percentiles of a band that are black and white in a picture


@TRANSFORMS.register_module()
class LoadBandsFromFile(BaseTransform):
    """Load an image of any number of bands from a TIFF or ``.npy`` file, in place of mm's loader.

    Values are those of the file, as ``float32``. Nothing is guessed: an alpha channel counts as a
    band, and a file with another number of bands is an error.

    An array without a path, as mmpretrain's inferencer gives it, is taken as ``(H, W, C)`` of all
    bands of a file.

    Args:
        num_bands: Number of bands of every file.
        bands: Which of them are loaded, from 0, in this order. Defaults to None, all.
        layout: Order of the axes in the files: ``'HWC'``, or ``'CHW'``, as in TIFF files with
            separate planes. An image of one band may also have two axes. Defaults to ``'HWC'``.
        shown: Which three of the loaded bands, from 0, pictures show as red, green and blue.
            Defaults to None, the first three; the last one stands for those that are missing.
        backend_args: Arguments of mmengine's file backend. Defaults to None, by the path.

    Raises:
        ValueError: A file cannot be read, has another number of bands, or holds values that are
            infinite, NaN or no real numbers; or an argument is wrong.

    Example:
        >>> load = LoadBandsFromFile(num_bands=13, bands=(1, 2, 3, 7), shown=(2, 1, 0))
        >>> load(dict(img_path='scene.tif'))['img'].shape
        (512, 512, 4)
    """

    def __init__(
        self,
        num_bands: int,
        bands: Sequence[int] | None = None,
        layout: str = 'HWC',
        shown: Sequence[int] | None = None,
        backend_args: dict | None = None,
    ) -> None:
        if num_bands < 1:
            raise ValueError(f'LoadBandsFromFile: num_bands={num_bands} must be at least 1')
        if layout not in LAYOUTS:
            raise ValueError(f'LoadBandsFromFile: layout={layout!r} must be one of {LAYOUTS}')
        self.num_bands = num_bands
        self.bands = list(range(num_bands) if bands is None else bands)
        self.layout = layout
        self.shown = (
            [min(band, len(self.bands) - 1) for band in range(3)] if shown is None else list(shown)
        )
        self.backend_args = backend_args
        if not self.bands or not all(0 <= band < num_bands for band in self.bands):
            raise ValueError(
                f'LoadBandsFromFile: bands={bands} must be some of the bands of a file, '
                f'0..{num_bands - 1}'
            )
        if len(self.shown) != 3 or not all(0 <= band < len(self.bands) for band in self.shown):
            raise ValueError(
                f'LoadBandsFromFile: shown={shown} must be three of the loaded bands, '
                f'0..{len(self.bands) - 1}'
            )

    def transform(self, results: dict) -> dict:
        """Read ``results['img_path']`` into ``results['img']``, ``(H, W, C)``."""
        path = results.get('img_path')
        if path is None:
            image = self._checked(np.asarray(results['img']), 'the array', 'HWC')
        else:
            image = self.read(path)
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        results['shown'] = self.shown
        if 'gt_seg_map' in results:
            check_equal_sizes(results)
        return results

    def read(self, path: str) -> NDArray[np.float32]:
        """Read the bands of a file, ``(H, W, C)``."""
        suffix = osp.splitext(path)[1].lower()
        if suffix not in _READERS:
            raise ValueError(
                f'LoadBandsFromFile reads {", ".join(_READERS)}, but the image is {path}'
            )
        content = fileio.get(path, backend_args=self.backend_args)
        try:
            array = _READERS[suffix](content)
        except ImportError:
            raise
        except Exception as error:
            raise ValueError(f'{path} cannot be read as {suffix}: {error}') from error
        return self._checked(array, path, self.layout)

    def _checked(self, array: Any, path: str, layout: str) -> NDArray[np.float32]:
        """Check an array, and select bands."""
        if array.dtype.kind not in 'buif':
            raise ValueError(f'{path} holds {array.dtype} values, which are no real numbers')
        given = array.shape
        if array.ndim == 2:
            array = array[..., None]
        elif array.ndim == 3 and layout == 'CHW':
            array = array.transpose(1, 2, 0)
        if array.ndim != 3 or array.shape[2] != self.num_bands:
            fits = array.ndim == 3 and given[0 if layout == 'HWC' else -1] == self.num_bands
            other = LAYOUTS[layout == 'HWC']
            raise ValueError(
                f'{path} is an array of shape {given}, which is no image of {self.num_bands} bands '
                f'with layout={layout!r}' + (f': set layout={other!r}' if fits else '')
            )
        image = np.ascontiguousarray(array[..., self.bands], np.float32)
        if not np.isfinite(image).all():
            raise ValueError(
                f'{path} holds infinite or NaN values: replace what stands for missing data'
            )
        return image

    def to_rgb(self, image: NDArray) -> NDArray[np.uint8]:
        """Picture of the shown bands of an image: :func:`picture_of`."""
        return picture_of(image, self.shown)


@TRANSFORMS.register_module()
class ShowBands(BaseTransform):
    """Turn an image of :class:`LoadBandsFromFile` into a picture of the bands that it shows.

    It is for tools of mm that draw what a pipeline gives, such as ``browse_dataset.py``: put it
    before the transform that packs. The picture is BGR, as images that mm loads.
    """

    def transform(self, results: dict) -> dict:
        """Replace ``results['img']`` by a picture, ``(H, W, 3)``."""
        if 'shown' not in results:
            raise ValueError('ShowBands: no toast_mm.LoadBandsFromFile is before it')
        image = results['img']
        image = image[..., None] if image.ndim == 2 else image  # OpenCV drops the axis of one band
        picture = picture_of(image, results['shown'])
        results['img'] = np.ascontiguousarray(picture[..., ::-1])
        return results


def picture_of(image: NDArray, shown: Sequence[int]) -> NDArray[np.uint8]:
    """Picture of three bands, each stretched between its 2nd and 98th percentile.

    Args:
        image: Bands ``(H, W, C)``.
        shown: Those for red, green and blue.

    Returns:
        Red, green and blue, ``(H, W, 3)``.
    """
    chosen = image[..., list(shown)].astype(np.float32)
    low, high = np.percentile(chosen, (DARKEST, BRIGHTEST), axis=(0, 1))
    scaled = (chosen - low) / np.where(high > low, high - low, 1)
    return (255 * scaled.clip(0, 1)).round().astype(np.uint8)


def _read_tiff(content: bytes) -> NDArray:
    try:
        import tifffile
    except ImportError as error:
        raise ImportError(f'{error}; pip install tifffile') from error
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        if not file.series:
            raise ValueError('it holds no image')
        for page in file.series[0].pages:
            if page is None or page.keyframe is None:  # the first of a row describes the others
                continue
            parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
            # tifffile fills missing parts with zeros, and only logs it.
            if len(parts) < prod(page.keyframe.chunked) or len(content) < max(map(sum, parts)):
                raise ValueError('its pixels are cut off')
        return file.series[0].asarray()


def _read_npy(content: bytes) -> NDArray:
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


_READERS = {'.tif': _read_tiff, '.tiff': _read_tiff, '.npy': _read_npy}
