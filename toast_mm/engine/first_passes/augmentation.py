"""Which part of its whole image an augmented sample shows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform, Compose, Resize
from numpy.typing import NDArray

from toast_mm.seeding import kept_random_state

# Transforms of mmcv, mmpretrain and mmseg that move pixels, so that straight lines stay straight.
_GEOMETRIC = {
    *('CenterCrop', 'Pad', 'RandomChoiceResize', 'RandomFlip', 'RandomResize', 'Resize'),
    *('RandomCrop', 'RandomResizedCrop', 'ResizeEdge', 'Rotate', 'Shear', 'Translate'),
    *('RandomRotate', 'ResizeShortestEdge', 'ResizeToMultiple'),
}
# Those that move nothing. A first pass of the whole image does not see what they do.
_APPEARANCE = {
    *('AutoContrast', 'Brightness', 'ColorJitter', 'ColorTransform', 'Contrast', 'Cutout'),
    *('Equalize', 'GaussianBlur', 'Invert', 'Lighting', 'Posterize', 'RandomErasing'),
    *('RandomGrayscale', 'Sharpness', 'Solarize', 'SolarizeAdd'),
    *('AdjustGamma', 'CLAHE', 'PhotoMetricDistortion', 'RandomCutOut'),
}
_PACKAGES = ('mmcv', 'mmpretrain', 'mmseg', 'toast_mm')

View = tuple[tuple[float, ...], ...]


class TrackedPipeline:
    """A pipeline whose samples refer to the first pass of their whole image, and to their part.

    Every geometric transform runs a second time, with the same random numbers, on an image that
    holds the coordinates of its pixels. What leaves the pipeline shows where each pixel was.

    A sample gets ``first_pass``: number of the cache, index in it, and view (:func:`fit_view`).

    Args:
        pipeline: The pipeline; see :func:`is_geometric` for its transforms.
        number: Number of the cache in the run.

    Raises:
        ValueError: It is not known whether a transform moves pixels.
    """

    def __init__(self, pipeline: Any, number: int) -> None:
        self.number = number
        self.steps = [
            (step, _tracker(step) if is_geometric(step) else None) for step in pipeline.transforms
        ]

    def __call__(self, results: dict) -> dict | None:
        """Run the transforms."""
        index = int(results['sample_idx'])
        coordinates: Any = None
        size: tuple[int, int] | None = None
        for transform, tracker in self.steps:
            if size is None and 'img' in results:
                coordinates = coordinates_of(results['img'].shape)
                size = coordinates.shape[:2]
            if tracker is not None:
                with kept_random_state():
                    moved = tracker({**results, 'img': coordinates})
                coordinates = None if moved is None else moved['img']
            transformed: dict | None = transform(results)
            if transformed is None:
                return None
            results = transformed
        assert size is not None  # the image is loaded by one of the transforms
        view = fit_view(coordinates, size)
        results['data_samples'].set_metainfo(dict(first_pass=(self.number, index, view)))
        return results

    @property
    def unseen(self) -> list[str]:
        """Transforms whose effect a first pass of the whole image does not see."""
        names = [type(transform).__name__ for transform, _ in self.steps]
        return [name for name in names if name in _APPEARANCE]


def is_geometric(transform: Callable) -> bool:
    """Whether a transform moves pixels. An attribute ``geometric`` of its class says so, too.

    Raises:
        ValueError: It is not known.
    """
    name = type(transform).__name__
    said = getattr(transform, 'geometric', None)
    if said is not None:
        return bool(said)
    if name.startswith(('Load', 'Pack')) or name == 'SeedAugmentation':
        return False
    if type(transform).__module__.split('.')[0] in _PACKAGES:
        if name in _GEOMETRIC:
            return True
        if name in _APPEARANCE:
            return False
    raise ValueError(
        f'first_pass_cache.augmented: it is not known whether {name} moves pixels: take it out of '
        'the pipeline, or give its class the attribute geometric = True (crops, flips, resizes or '
        'rotates the image, for which it may only use random numbers) or False (changes colours)'
    )


def whole_images(pipeline: Any, size: tuple[int, int]) -> Compose:
    """A pipeline that loads whole images, resizes them to a height and width, and packs them."""
    loading = [step for step in pipeline.transforms if type(step).__name__.startswith('Load')]
    return Compose([*loading, Resize(scale=size[::-1]), pipeline.transforms[-1]])


def size_of_sample(dataset: Any, pipeline: Any) -> tuple[int, int]:
    """Height and width of the first sample of a data set."""
    steps = [step for step in pipeline.transforms if type(step).__name__ != 'SeedAugmentation']
    with kept_random_state():
        height, width = Compose(steps)(dataset.get_data_info(0))['inputs'].shape[-2:]
    return height, width


@lru_cache(maxsize=8)
def coordinates_of(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Read-only image ``(H, W, bands)`` of the coordinates of its pixels, and of ones.

    Centres of pixels have coordinates from -1 to 1, first x, then y, as in
    ``torch.nn.functional.grid_sample``. The third channel is 1; padding has another value there.
    """
    height, width, *bands = shape
    image = np.ones((height, width, max([3, *bands])), np.float32)
    image[..., 0] = (2 * np.arange(width) + 1) / width - 1
    image[..., 1] = ((2 * np.arange(height) + 1) / height - 1)[:, None]
    image.flags.writeable = False
    return image


def fit_view(coordinates: NDArray[np.float32], size: Sequence[int]) -> View:
    """Matrix ``(2, 3)`` from pixels ``(x, y, 1)`` of an augmented image to the whole image.

    A pixel's centre is at half a pixel. In the whole image, coordinates are those of
    :func:`coordinates_of`. An image that consists of padding shows the centre.

    Args:
        coordinates: What the transforms made of :func:`coordinates_of`.
        size: Height and width of the whole image.

    Raises:
        ValueError: The transforms bent the image.
    """
    height, width = coordinates.shape[:2]
    rows, columns = (np.unique(np.linspace(0, n - 1, 16).astype(int)) for n in (height, width))
    samples = coordinates[np.ix_(rows, columns)].astype(np.float64)
    y, x = np.meshgrid(rows + 0.5, columns + 0.5, indexing='ij')
    inside = np.abs(samples[..., 2] - 1) < 1e-3
    places = np.stack([x, y, np.ones_like(x)], axis=-1)[inside]
    matrix = np.linalg.lstsq(places, samples[inside][:, :2], rcond=None)[0]
    # Two pixels of the larger kind: interpolation rounds, and repeats pixels at borders.
    allowed = 4 / min(size) + 2 * np.abs(matrix[:2]).max(initial=0)
    if np.abs(places @ matrix - samples[inside][:, :2]).max(initial=0) > allowed:
        raise ValueError(
            'first_pass_cache.augmented: the transforms bend the image; a cached first pass can '
            'only be cropped, flipped, resized, rotated and sheared'
        )
    return tuple(map(tuple, matrix.T.tolist()))


def _tracker(transform: BaseTransform) -> BaseTransform:
    """A copy that takes coordinates."""
    tracker = copy.deepcopy(transform)
    for part in (tracker, getattr(tracker, 'resize', tracker)):
        if getattr(part, 'backend', None) == 'pillow':  # it takes 8 bits only
            part.backend = 'cv2'
        if hasattr(part, 'interpolation'):
            part.interpolation = 'bilinear'
    return tracker
