"""Data preprocessors for images of any number of bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmpretrain.models import ClsDataPreprocessor
from mmseg.models import SegDataPreProcessor

from toast_mm.registry import MODELS


@MODELS.register_module()
class BandClsDataPreprocessor(ClsDataPreprocessor):
    """mmpretrain's ``ClsDataPreprocessor`` with a mean and a std for each of any number of bands.

    Bands stay in the order in which they are loaded.

    Args:
        mean: Mean of each band.
        std: Standard deviation of each band.
        **kwargs: Other arguments of ``ClsDataPreprocessor``.

    Raises:
        ValueError: There are not as many means as standard deviations, or bands would be reversed.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], **kwargs: Any) -> None:
        _check_arguments(mean, std, kwargs)
        super().__init__(mean=mean, std=std, **kwargs)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise a batch.

        Raises:
            ValueError: An image has another number of bands than there are means.
        """
        _check_images(data, len(self.mean))
        return super().forward(data, training)


@MODELS.register_module()
class BandSegDataPreProcessor(SegDataPreProcessor):
    """mmseg's ``SegDataPreProcessor`` with a mean and a std for each of any number of bands.

    mmseg's own class takes one or three. Bands stay in the order in which they are loaded.

    Args:
        mean: Mean of each band.
        std: Standard deviation of each band.
        **kwargs: Other arguments of ``SegDataPreProcessor``.

    Raises:
        ValueError: See :class:`BandClsDataPreprocessor`.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], **kwargs: Any) -> None:
        _check_arguments(mean, std, kwargs)
        super().__init__(**kwargs)
        self._enable_normalize = True
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise a batch.

        Raises:
            ValueError: An image has another number of bands than there are means.
        """
        _check_images(data, len(self.mean))
        return super().forward(data, training)


def _check_arguments(
    mean: Sequence[float], std: Sequence[float], kwargs: Mapping[str, Any]
) -> None:
    if len(mean) != len(std):
        raise ValueError(
            f'data_preprocessor: mean has {len(mean)} values, and std {len(std)}: give one of each '
            'per band'
        )
    for name in ('to_rgb', 'bgr_to_rgb', 'rgb_to_bgr'):
        if kwargs.get(name):
            raise ValueError(
                f'data_preprocessor: {name}={kwargs[name]} reverses three colours: leave it out, '
                'and order the bands by toast_mm.LoadBandsFromFile(bands=...)'
            )


def _check_images(data: Mapping[str, Any], bands: int) -> None:
    for number, image in enumerate(data['inputs']):
        if len(image) != bands:
            sample = (data.get('data_samples') or {number: {}})[number]
            raise ValueError(
                f'{sample.get("img_path") or "an image"} has {len(image)} bands, but mean and std '
                f'of model.data_preprocessor have {bands} values: give one per loaded band'
            )
