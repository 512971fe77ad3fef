"""Reading images and masks, with checks."""

from __future__ import annotations

import io
import logging
from typing import Any

import cv2
import mmcv
import mmcv.transforms
import mmseg.datasets.transforms.loading
import numpy as np
from mmcv.image.io import imread_flags
from mmengine import fileio
from mmengine.logging import print_log
from mmseg.datasets.transforms import LoadImageFromNDArray
from PIL import Image

from toast_mm.datasets.kept_images import KeepingLoader
from toast_mm.registry import TRANSFORMS

BIT_DEPTHS = (8, 10, 12, 14, 16)  # of sensors
EXIF_ORIENTATION = 0x0112


@TRANSFORMS.register_module()
class LoadImageFromFile(mmcv.transforms.LoadImageFromFile, KeepingLoader):
    """mmcv's ``LoadImageFromFile`` with errors that name the file, for images of any bit depth.

    Images with 16 bits per channel often use only 12 bits or fewer. mmcv keeps the highest 8 of the
    16, so such images become nearly black. This class scales the bits that are used to 8 bits. With
    ``to_float32`` the values have the same range, 0 to 256, with fractions.

    An image without a path stays as it is: mmpretrain's inferencers load it themselves.

    Args:
        *args: As for mmcv's class.
        bit_depth: Number of bits that the values in files with 16 bits per channel have. None takes
            the smallest of 8, 10, 12, 14 and 16 that holds the brightest value of an image, and
            warns if it is not 16. ``imdecode_backend='tifffile'`` and ``color_type='unchanged'``
            leave values as they are; ``'pillow'`` would cut them and is an error. Defaults to None.
        **kwargs: As for mmcv's class.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be decoded, has values beyond ``bit_depth``, or differs in size
            from a mask that was loaded before it; the message names it.
    """

    def __init__(self, *args: Any, bit_depth: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if bit_depth is not None and not 8 <= bit_depth <= 16:
            raise ValueError(f'bit_depth={bit_depth} must be from 8 to 16, or None')
        if self.file_client_args is not None:
            raise ValueError('LoadImageFromFile: use backend_args instead of file_client_args')
        self.bit_depth = bit_depth
        self._deep = self.imdecode_backend == 'cv2' and self.color_type != 'unchanged'
        self._warned = False
        self._ignored: set[str] = set()

    def transform(self, results: dict) -> dict | None:
        """Read ``results['img_path']`` into ``results['img']``, ``(H, W, 3)``, BGR."""
        if 'img' in results and 'img_path' not in results:
            return results
        path = results['img_path']
        try:
            image = self.load(
                path, self.color_type, self.imdecode_backend, self.to_float32, self.bit_depth
            )
        except Exception as error:
            if not self.ignore_empty:
                raise
            self._tell_ignored(str(path), error)
            return None
        if self.to_float32:
            image = image.astype(np.float32)
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        if 'gt_seg_map' in results:
            check_equal_sizes(results)
        return results

    def read(self, path: str) -> np.ndarray:
        """Read and decode an image."""
        return self.decode(fileio.get(path, backend_args=self.backend_args), path)

    def _tell_ignored(self, path: str, error: Exception) -> None:
        """Warn about a file once; mmengine's data sets take another sample and say nothing."""
        if path in self._ignored:
            return
        self._ignored.add(path)
        print_log(
            f'{error}; another sample takes its place (ignore_empty=True)',
            logger='current',
            level=logging.WARNING,
        )

    def decode(self, content: bytes, path: str) -> np.ndarray:
        """Decode the content of a file, which errors call by ``path``."""
        flag = self.color_type
        if self._deep:
            flag = imread_flags[flag] | cv2.IMREAD_ANYDEPTH
        try:
            image = mmcv.imfrombytes(content, flag=flag, backend=self.imdecode_backend)
        except Exception as error:
            raise ValueError(f'{path} cannot be decoded as an image') from error
        if image is None:
            raise ValueError(f'{path} cannot be decoded as an image')
        cut = self.imdecode_backend == 'pillow' and self.color_type != 'unchanged'
        if cut and is_deep(content):
            raise ValueError(
                f"{path} has more than 8 bits per channel, which imdecode_backend='pillow' cuts: "
                "set imdecode_backend='cv2'"
            )
        if self._deep and image.dtype != np.uint8:
            return self._scale(image, path)
        return image

    def _scale(self, image: np.ndarray, path: str) -> np.ndarray:
        """Scale values to 8 bits."""
        if image.dtype != np.uint16:
            raise ValueError(
                f'{path} holds values of type {image.dtype}, which have no fixed range: save it '
                'with 8 or 16 bits per channel'
            )
        brightest = int(image.max())
        bits = self.bit_depth or next(bits for bits in BIT_DEPTHS if brightest < 2**bits)
        if brightest >= 2**bits:
            raise ValueError(f'{path} has the value {brightest}, which needs more than {bits} bits')
        if self.bit_depth is None and bits < 16 and not self._warned:
            self._warned = True
            print_log(
                f'{path} has 16 bits per channel and uses {bits} of them, which are scaled to 8; '
                f'to scale all images alike, set LoadImageFromFile(bit_depth={bits}) in the '
                'pipelines. Further images of this kind are not reported',
                logger='current',
                level=logging.WARNING,
            )
        if self.to_float32:
            return image / np.float32(2 ** (bits - 8))
        return (image >> (bits - 8)).astype(np.uint8)


def is_deep(content: bytes) -> bool:
    """Whether an image that Pillow can open has more than 8 bits per channel."""
    if content.startswith(b'\x89PNG'):
        return content[24] > 8  # Pillow's mode is RGB for 16 bits per channel as well
    with Image.open(io.BytesIO(content)) as image:
        return image.mode.startswith(('I', 'F'))


def first_darkened(dataset: Any) -> str | None:
    """Path of the first image of a data set, if mmcv's own loader keeps only its highest 8 bits."""
    plain = [
        transform
        for transform in getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
        if type(transform) is mmcv.transforms.LoadImageFromFile
        and transform.color_type != 'unchanged'
    ]
    try:
        path = dataset.get_data_info(0)['img_path'] if plain else ''
        return path if path and is_deep(fileio.get(path, plain[0].backend_args)) else None
    except Exception:  # not readable: loading it raises the error
        return None


@TRANSFORMS.register_module()
class LoadAnnotations(mmseg.datasets.transforms.loading.LoadAnnotations, KeepingLoader):
    """mmseg's ``LoadAnnotations`` with checks that the mask fits its image.

    It does nothing if there is no mask to load, so a test pipeline also works for inference.

    Raises:
        FileNotFoundError: There is no such mask.
        ValueError: The mask cannot be decoded, differs in size from its image, has several channels
            or labels beyond 255, or pipeline and data set disagree on ``reduce_zero_label``; the
            message names the files.
    """

    def transform(self, results: dict) -> dict:
        """Read ``results['seg_map_path']`` into ``results['gt_seg_map']``, ``(H, W)``."""
        return super().transform(results) if 'seg_map_path' in results else results

    def _load_seg_map(self, results: dict) -> None:
        path = results['seg_map_path']
        mask = self.load(path, 'mask', self.imdecode_backend)
        results['gt_seg_map'] = self._renumbering(results)[_labels(mask, path)]
        results.setdefault('seg_fields', []).append('gt_seg_map')
        if 'ori_shape' in results:
            check_equal_sizes(results)

    def read(self, path: str) -> np.ndarray:
        """Read and decode a mask."""
        content = fileio.get(path, backend_args=self.backend_args)
        try:
            mask = mmcv.imfrombytes(content, flag='unchanged', backend=self.imdecode_backend)
        except Exception as error:
            raise ValueError(f'{path} cannot be decoded as a mask') from error
        if mask is None:
            raise ValueError(f'{path} cannot be decoded as a mask')
        return mask

    def _renumbering(self, results: dict) -> np.ndarray:
        """Table of the new label for each of 0..255."""
        reduce_zero_label = results.get('reduce_zero_label', self.reduce_zero_label)
        if self.reduce_zero_label not in (None, reduce_zero_label):
            raise ValueError(
                f'LoadAnnotations has reduce_zero_label={self.reduce_zero_label}, but its data set '
                f'has {reduce_zero_label}: leave it out of the pipeline and set it in the data set'
            )
        labels = np.arange(256, dtype=np.uint8)
        if reduce_zero_label:
            labels[1:255] = labels[:254].copy()
            labels[0] = 255
        known = np.arange(256, dtype=np.uint8)
        for old, new in (results.get('label_map') or {}).items():
            known[old] = new % 256  # -1 becomes 255, which is ignored
        return known[labels]


def _labels(mask: np.ndarray, path: str) -> np.ndarray:
    """Turn a decoded mask into labels 0..255, ``(H, W)``."""
    if mask.ndim == 3 and mask.shape[2] == 1:
        mask = mask[..., 0]
    if mask.ndim != 2:
        raise ValueError(
            f'{path} has {mask.shape[-1]} channels, but a mask has one channel of class numbers: '
            'convert its colours into these'
        )
    labels = mask.astype(np.uint8)
    wrong = mask[labels != mask] if mask.dtype != np.uint8 else mask[:0]
    if wrong.size:
        raise ValueError(f'{path} has the label {wrong[0]}; labels are whole numbers from 0 to 255')
    return labels


def check_equal_sizes(results: dict) -> None:
    """Check that the loaded mask and its image have the same size.

    Raises:
        ValueError: Their sizes differ; the message names both files.
    """
    mask, image = results['gt_seg_map'].shape[:2], tuple(results['ori_shape'][:2])
    if mask == image:
        return
    reason = ''
    turned = exif_orientation(str(results.get('img_path')))
    if turned > 4 and mask == image[::-1]:
        reason = (
            f'. The image is rotated when it is read, by its EXIF orientation {turned}: rotate the '
            "mask as well, or read the image with color_type='color_ignore_orientation'"
        )
    raise ValueError(
        f'{results["seg_map_path"]} is a mask of {mask[1]} x {mask[0]} pixels, but its image '
        f'{results.get("img_path")} has {image[1]} x {image[0]}{reason}'
    )


def exif_orientation(path: str) -> int:
    """EXIF orientation of an image: 1 as stored, 2 to 8 mirrored or rotated."""
    try:
        with Image.open(path) as image:
            return image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # not a local file, or of another format
        return 1


@TRANSFORMS.register_module()
class InferencerLoader(mmseg.datasets.transforms.loading.InferencerLoader):
    """Loader that mmseg's inferencer uses in place of :class:`LoadImageFromFile`."""

    def __init__(self, to_float32: bool = False, **kwargs: Any) -> None:
        self.from_file = LoadImageFromFile(to_float32=to_float32, **kwargs)
        self.from_ndarray = LoadImageFromNDArray(to_float32=to_float32)


# mmseg's ``inference_model`` puts this in its place if the image is an array.
TRANSFORMS.register_module(module=LoadImageFromNDArray)
