"""Checking that images are normalised as a model of timm was trained with."""

from __future__ import annotations

from typing import Any

import numpy as np

from toast_mm.engine.model import unwrap
from toast_mm.models.backbones.timm_models import TOASTTimm, pixel_statistics


def other_normalisation(model: Any) -> str | None:
    """Describe a normalisation that pre-trained weights were not trained with; or None."""
    model = unwrap(model)
    backbone: Any = getattr(model, 'backbone', None)
    if not isinstance(backbone, TOASTTimm) or not backbone.pretrained:
        return None
    try:
        wanted = pixel_statistics(backbone.model_name)
    except ValueError:
        return None  # nobody knows it
    given = {
        name: getattr(model.data_preprocessor, name).flatten().tolist()
        for name in wanted
        if hasattr(model.data_preprocessor, name)
    }
    if backbone.in_channels != 3 or len(given.get('mean', [])) > 3:
        return None  # images of other bands
    wrong = [
        f'{name}={given.get(name)} instead of {wanted[name]}'
        for name in wanted
        if name not in given or not np.allclose(given[name], wanted[name], atol=0.5)
    ]
    names = ('to_rgb', '_channel_conversion')
    if not any(getattr(model.data_preprocessor, name, False) for name in names):
        wrong.append('BGR, as mmcv reads images, instead of RGB')
    if not wrong:
        return None
    segments = hasattr(model, 'decode_head')
    right = 'TimmSegDataPreProcessor' if segments else 'TimmClsDataPreprocessor'
    return (
        f'model.data_preprocessor gives other images than {backbone.model_name} was trained with, '
        f'{", ".join(wrong)}: use toast_mm.{right} with this model_name'
    )
