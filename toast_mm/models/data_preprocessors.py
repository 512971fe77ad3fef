"""Data preprocessors that normalise images as a model of timm expects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from mmpretrain.models import ClsDataPreprocessor
from mmseg.models import SegDataPreProcessor

from toast_mm.registry import MODELS

from .backbones.timm_models import pixel_statistics


@MODELS.register_module()
class TimmClsDataPreprocessor(ClsDataPreprocessor):
    """mmpretrain's ``ClsDataPreprocessor`` with mean and std of a model of timm, in RGB.

    Args:
        model_name: Name of the model in timm, as the backbone has it.
        **kwargs: Other arguments of ``ClsDataPreprocessor``.

    Raises:
        ValueError: There is no such model, timm does not know its mean and std, or an argument
            contradicts them.

    Example:
        >>> TimmClsDataPreprocessor('vit_base_patch16_siglip_224').mean.flatten().tolist()
        [127.5, 127.5, 127.5]
    """

    def __init__(self, model_name: str, **kwargs: Any) -> None:
        own = dict(**pixel_statistics(model_name), to_rgb=True)
        super().__init__(**_joined(model_name, own, kwargs))


@MODELS.register_module()
class TimmSegDataPreProcessor(SegDataPreProcessor):
    """mmseg's ``SegDataPreProcessor`` with mean and std of a model of timm, in RGB.

    Args:
        model_name: Name of the model in timm, as the backbone has it.
        **kwargs: Other arguments of ``SegDataPreProcessor``.

    Raises:
        ValueError: See :class:`TimmClsDataPreprocessor`.
    """

    def __init__(self, model_name: str, **kwargs: Any) -> None:
        own = dict(**pixel_statistics(model_name), bgr_to_rgb=True)
        super().__init__(**_joined(model_name, own, kwargs))


def _joined(model_name: str, own: Mapping[str, Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of both: a config that this one inherits from may say what the model says."""
    for name, value in own.items():
        given = kwargs.get(name)
        if name in ('mean', 'std') and given is not None and len(given) not in (1, 3):
            raise ValueError(
                f'data_preprocessor: {name} has {len(given)} values, but {model_name} was trained '
                'with three bands: use toast_mm.BandClsDataPreprocessor or BandSegDataPreProcessor'
            )
        if given is not None and not np.allclose(given, value, atol=0.01):
            raise ValueError(
                f'data_preprocessor: {name}={given} contradicts {model_name}, which has '
                f'{name}={value}: leave it out'
            )
    return {**kwargs, **own}
