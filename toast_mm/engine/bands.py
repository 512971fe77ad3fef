"""The bands of images: showing them, and checking that data and backbone have the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from toast_mm.checkpoint.loadable import LoadableBackbone
from toast_mm.datasets import LoadBandsFromFile
from toast_mm.engine.class_names import first_leaf, leaves
from toast_mm.engine.model import unwrap

# Transforms of mmpretrain, mmseg and mmcv that take the channels for red, green and blue.
COLOURS = frozenset(
    (
        'AdjustGamma', 'AutoAugment', 'AutoContrast', 'Brightness', 'CLAHE', 'ColorJitter',
        'ColorTransform', 'Contrast', 'Equalize', 'Invert', 'Lighting', 'NumpyToPIL',
        'PhotoMetricDistortion', 'Posterize', 'RGB2Gray', 'RandAugment', 'RandomErasing',
        'RandomGrayscale', 'Rerange', 'Sharpness', 'Solarize', 'SolarizeAdd',
    )
)  # fmt: skip


def band_loader(dataset: Any) -> LoadBandsFromFile | None:
    """The transform by which a data set loads bands; None if it loads images in another way."""
    for transform in _transforms(first_leaf(dataset)):
        if isinstance(transform, LoadBandsFromFile):
            return transform
    return None


def rgb_image(inputs: Any, preprocessor: Any, loader: LoadBandsFromFile | None) -> NDArray:
    """The image that a pipeline packed, as RGB ``(H, W, 3)``.

    Args:
        inputs: The packed tensor ``(C, H, W)``.
        preprocessor: Data preprocessor, which knows the order of the channels.
        loader: The transform that loaded bands; None if the image is of three colours.
    """
    image = inputs.permute(1, 2, 0).numpy()
    if loader is not None:
        return loader.to_rgb(image)
    # mmpretrain and mmseg name the conversion from BGR to RGB differently.
    converts = any(getattr(preprocessor, n, False) for n in ('to_rgb', '_channel_conversion'))
    return image[..., ::-1] if converts else image


def other_bands(model: Any, dataset: Any) -> str | None:
    """Describe how the bands of data, preprocessing and backbone differ; or None.

    Args:
        model: Its backbone says which bands are right. Others than ours are not checked.
        dataset: Data set, or a wrapper of some.
    """
    bands = bands_of(model)
    if bands is None:
        return None
    for leaf in leaves(dataset):
        loader = band_loader(leaf)
        if loader is not None and len(loader.bands) != bands:
            return (
                f'LoadBandsFromFile loads {len(loader.bands)} bands, but model.backbone.in_channels'
                f'={bands}: the two must be equal'
            )
    preprocessor = unwrap(model).data_preprocessor
    for name in ('mean', 'std'):
        values = getattr(preprocessor, name, None)
        # One value for red, green and blue is usual, and says the same of each.
        if values is not None and len(values) != bands and (len(values), bands) != (1, 3):
            return (
                f'model.data_preprocessor.{name} has {len(values)} values, but model.backbone.'
                f'in_channels={bands}: give one value per band'
            )
    if bands == 3:
        return None
    if any(getattr(preprocessor, name, False) for name in ('to_rgb', '_channel_conversion')):
        return (
            'model.data_preprocessor converts BGR to RGB, but model.backbone.in_channels='
            f'{bands}: leave it out'
        )
    names = (type(part).__name__ for leaf in leaves(dataset) for part in _transforms(leaf))
    wrong = next((name for name in names if name in COLOURS), None)
    if wrong is not None:
        return (
            f'{wrong} is for red, green and blue, but model.backbone.in_channels={bands}: take '
            'it out of the pipeline'
        )
    return None


def other_images(model: Any, batch: Any) -> str | None:
    """Name the first image of a batch with other bands than the backbone takes; or None."""
    bands = bands_of(model)
    if bands is None or not isinstance(batch, Mapping):
        return None
    samples = batch.get('data_samples')
    for number, image in enumerate(batch.get('inputs', ())):
        if getattr(image, 'ndim', 0) == 3 and len(image) != bands:
            path = samples[number].get('img_path') if samples else None
            return (
                f'{path or "an image"} has {len(image)} bands, but model.backbone.in_channels='
                f'{bands}: the two must be equal'
            )
    return None


def bands_of(model: Any) -> int | None:
    """Number of bands that the backbone of a model takes; None if it does not say so."""
    backbone = getattr(unwrap(model), 'backbone', None)
    if not isinstance(backbone, LoadableBackbone) or backbone.stem_weight is None:
        return None
    return backbone.in_channels


def _transforms(dataset: Any) -> Iterator[Any]:
    """All transforms of a pipeline, also inside others such as ``RandomApply``."""
    pipeline = getattr(dataset, 'pipeline', None)
    yield from _nested(getattr(pipeline, 'pipeline', pipeline))


def _nested(transform: Any) -> Iterator[Any]:
    yield transform
    inner = getattr(transform, 'transforms', [])
    for part in inner if isinstance(inner, (list, tuple)) else [inner]:
        yield from _nested(part)
