"""What a model makes of one sample, for pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.dataset import pseudo_collate

from toast_mm.datasets import LoadBandsFromFile
from toast_mm.engine.bands import rgb_image
from toast_mm.engine.model import backbone_of, unwrap
from toast_mm.models.heads import InCADecodeHead, InCAHead
from toast_mm.visualization import View, attention_maps


def view_of(
    model: Any,
    sample: Mapping[str, Any],
    loader: Any = None,
    blocks: Sequence[int] | int | None = None,
    heads: bool = False,
) -> View:
    """Name a model by its method, and compute its attention maps of a sample.

    Args:
        model: A classifier or segmentor, wrapped or not.
        sample: What a test pipeline packed: ``inputs`` and ``data_samples``.
        loader: The transform that loaded the image. Defaults to None, one that loads three colours.
        blocks: Blocks that are shown; see :func:`attention_maps`.
        heads: Whether to keep the maps of all heads; otherwise their mean. Defaults to False.

    Raises:
        ValueError: The model has no such maps.
    """
    model, backbone = unwrap(model), backbone_of(model, 'attention maps')
    inputs = model.data_preprocessor(pseudo_collate([sample]), False)['inputs']
    maps = attention_maps(backbone, inputs, blocks)
    sizes = zip(inputs.shape[-2:], sample['inputs'].shape[-2:], strict=True)
    bands = loader if isinstance(loader, LoadBandsFromFile) else None
    return View(
        method_of(model),
        rgb_image(sample['inputs'], model.data_preprocessor, bands).clip(0, 255).astype(np.uint8),
        maps if heads else {block: found.mean() for block, found in maps.items()},
        covered=tuple(padded / own for padded, own in sizes),
    )


def method_of(model: Any) -> str:
    """Name of the transfer method of a model: that of its head for InCA, or of its backbone."""
    heads = (getattr(model, name, None) for name in ('head', 'decode_head'))
    if any(isinstance(head, (InCAHead, InCADecodeHead)) for head in heads):
        return 'InCA'
    return model.backbone.method
