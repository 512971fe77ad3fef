"""From what users have (paths, folders, arrays, PIL images) to samples of a test pipeline."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.error import URLError

import cv2
import mmcv
import numpy as np
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from numpy.typing import NDArray
from PIL import Image, ImageOps

from toast_mm.datasets import LoadBandsFromFile, LoadImageFromFile
from toast_mm.engine.task_config import image_pipeline

Picture: TypeAlias = 'str | os.PathLike[str] | NDArray | Image.Image'
SUFFIXES = (
    *('.bmp', '.gif', '.jp2', '.jpe', '.jpeg', '.jpg'),
    *('.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp'),
)


@dataclass
class Sample:
    """A prepared image.

    Attributes:
        image: The image as it is shown: RGB ``(H, W, 3)``.
        path: Its file; None for an array or a PIL image.
        packed: What the pipeline packs: ``inputs`` and ``data_samples``.
    """

    image: NDArray[np.uint8]
    path: str | None
    packed: dict[str, Any]


def list_pictures(
    inputs: Any, suffixes: Iterable[str] = SUFFIXES, missing: bool = False
) -> list[Any]:
    """List the pictures that are meant; a folder stands for all images below it, sorted.

    Args:
        inputs: A path, array, PIL image or folder, or a sequence of these.
        suffixes: Endings of the names of images in a folder.
        missing: Whether paths of nothing are listed, too; reading them is an error.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: A folder holds no images, or the list is empty.
    """
    if isinstance(inputs, (str, os.PathLike, np.ndarray, Image.Image)):
        inputs = [inputs]
    if not isinstance(inputs, (list, tuple, Iterator)):
        raise TypeError(_no_image(inputs))
    pictures = []
    for one in inputs:
        if not isinstance(one, (str, os.PathLike)):
            pictures.append(one)
        elif '://' in str(one) or os.path.isfile(one) or (missing and not os.path.exists(one)):
            pictures.append(os.fspath(one))
        elif os.path.isdir(one):
            pictures += _images_in(Path(one), tuple(suffixes))
        else:
            raise FileNotFoundError(f'{one}: there is no such image or folder')
    if not pictures:
        raise ValueError('there are no images: the list is empty')
    return pictures


def _images_in(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """All images below a folder. Other files, except hidden ones, are named in a warning."""
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    files = [f for f in files if not any(p[0] == '.' for p in f.relative_to(folder).parts)]
    images = [file for file in files if file.suffix.lower() in suffixes]
    endings = ', '.join(sorted(suffixes))
    if not images:
        raise ValueError(f'folder {folder} holds no images, which end in {endings}')
    if others := [str(file) for file in files if file.suffix.lower() not in suffixes]:
        more = f' and {len(others) - 5} more' if len(others) > 5 else ''
        print_log(
            f'passed over, since images end in {endings}: {", ".join(others[:5])}{more}',
            logger='current',
            level=logging.WARNING,
        )
    return [str(image) for image in images]


class Preparation:
    """The test pipeline of a config, for paths, arrays and PIL images.

    Args:
        cfg: A config with ``test_dataloader.dataset.pipeline``.

    Attributes:
        loader: The transform that loads an image.
        steps: Classes and arguments of all transforms but the packing; where they are equal, images
            are prepared alike.

    Raises:
        ConfigError: The config has no test pipeline.
        ValueError: The pipeline loads no images.
    """

    def __init__(self, cfg: Config) -> None:
        pipeline = image_pipeline(cfg)
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
            steps = Compose(pipeline).transforms
        kinds = (mmcv.transforms.LoadImageFromFile, LoadBandsFromFile)
        place = next((n for n, step in enumerate(steps) if isinstance(step, kinds)), None)
        if place is None:
            names = ', '.join(type(step).__name__ for step in steps)
            raise ValueError(f'the test pipeline has no LoadImageFromFile; it has {names}')
        self.loader = steps[place]
        self.steps = _described(steps, pipeline)
        self._before, self._after = Compose(steps[:place]), Compose(steps[place + 1 :])

    @property
    def suffixes(self) -> Sequence[str]:
        """Endings of the files that the pipeline can load."""
        bands = isinstance(self.loader, LoadBandsFromFile)
        return ('.npy', '.tif', '.tiff') if bands else SUFFIXES

    def __call__(self, picture: Picture) -> Sample:
        """Prepare a picture as the test data were prepared.

        Args:
            picture: Path; RGB array ``(H, W, 3)`` or gray ``(H, W)``; or PIL image.

        Raises:
            OSError: The file cannot be opened.
            ValueError: It is no image that the pipeline can read; the message names it.
        """
        path = None
        if isinstance(picture, (str, os.PathLike)):
            path = os.fspath(picture)
            results: dict[str, Any] = dict(img_path=path)
        else:
            results = dict(img=_array_of(picture))
        results = self._before(results)
        try:
            results = self._load(results)
        except URLError as error:
            raise OSError(f'{path} cannot be read: {error.reason}') from error
        except (AttributeError, AssertionError, cv2.error) as error:  # of mm's own loader
            raise ValueError(f'{path} cannot be decoded as an image') from error
        if results is None:
            raise ValueError(f'{path} cannot be decoded as an image')
        image = self._shown(results['img'])
        return Sample(image, path, self._after(results))

    def _load(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load the image of a path; give an array the form that the loader gives an image."""
        loader = self.loader
        if 'img_path' in results or isinstance(loader, LoadBandsFromFile):
            return loader(results)
        rgb = results['img']
        _check_pixels(rgb)
        image = rgb if rgb.shape[2:] in ((), (1,)) else np.ascontiguousarray(rgb[..., 2::-1])
        plain = image.dtype == np.uint8 and image.shape[2:] == (3,)
        if not plain or not loader.color_type.startswith('color'):
            image = self._as_file(image)
        image = image.astype(np.float32) if loader.to_float32 else image
        return results | dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])

    def _as_file(self, image: NDArray) -> NDArray:
        """Let the loader decode an array: its arguments say what it makes of gray or 16 bits."""
        content = cv2.imencode('.png', image)[1].tobytes()
        if isinstance(self.loader, LoadImageFromFile):
            return self.loader.decode(content, 'the array')
        return mmcv.imfrombytes(
            content, self.loader.color_type, backend=self.loader.imdecode_backend
        )

    def _shown(self, image: NDArray) -> NDArray[np.uint8]:
        """A loaded image as RGB."""
        if isinstance(self.loader, LoadBandsFromFile):
            return self.loader.to_rgb(image)
        image = image.clip(0, 255).astype(np.uint8)
        if image.ndim == 2 or image.shape[2] == 1:
            return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
        return np.ascontiguousarray(image[..., 2::-1])


def _described(steps: Sequence[Any], pipeline: Sequence[Mapping[str, Any]]) -> str:
    """Classes and arguments of transforms, without those that pack."""
    return repr(
        [
            (type(step), {k: v for k, v in sorted(part.items()) if k not in ('type', '_scope_')})
            for step, part in zip(steps, pipeline, strict=True)
            if not type(step).__name__.startswith('Pack')
        ]
    )


def _array_of(picture: Any) -> NDArray:
    """Pixels of an array or PIL image, which is turned upright.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(picture, Image.Image):
        picture = ImageOps.exif_transpose(picture)
        whole = picture.mode in ('I', 'F') or picture.mode.startswith('I;16')  # beyond 8 bits
        return np.asarray(picture if whole else picture.convert('RGB'))
    if not isinstance(picture, np.ndarray):
        raise TypeError(_no_image(picture))
    return picture


def _no_image(value: Any) -> str:
    return (
        f'{type(value).__name__} is no image: give a path, an array, a PIL image, a folder, or a '
        'list of these'
    )


def _check_pixels(array: NDArray) -> None:
    """Check the pixels of an array that is no path.

    Raises:
        ValueError: Its shape or type is not that of an image.
    """
    if array.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f'the array holds values of type {array.dtype}, which have no fixed range: convert it '
            'to uint8, from 0 to 255'
        )
    if not array.size or array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)):
        raise ValueError(
            f'an array of shape {array.shape} is no image: it must be (H, W, 3) in RGB, or gray '
            '(H, W)'
        )
