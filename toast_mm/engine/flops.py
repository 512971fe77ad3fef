"""Counting the operations and parameters of a model, without weights and without images.

A multiply-add counts as two operations. mmengine's ``get_model_complexity_info`` counts it as one,
and leaves out fused attention.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from toast_mm.engine.model import backbone_of, build_model, steered_backbone
from toast_mm.models.backbones.transfer import TransferBackbone

# Arguments of a backbone that belong to steering and to methods.
_METHOD = ('pretuned', 'lite', 'tuning')


@dataclass
class Cost:
    """What a model or a part of it needs.

    Attributes:
        flops: Operations of a forward pass, per image.
        parameters: Number of parameters.
        tuned: How many of them a training tunes.
    """

    flops: float
    parameters: int
    tuned: int


def flops_per_image(run: Callable[[Tensor], Any], images: Tensor) -> float:
    """Count the operations of a function on a batch, divided by the size of the batch.

    Use images and a model on the device ``meta``: PyTorch does not count a CPU's fused attention.
    """
    with FlopCounterMode(display=False) as counter:
        run(images)
    return counter.get_total_flops() / len(images)


def costs(cfg: Config, size: tuple[int, int]) -> dict[str, Cost]:
    """Costs of the model of a config at a size of images: of its backbone, and of all.

    Args:
        cfg: Config of a classifier or segmentor.
        size: Height and width of the preprocessed images.

    Returns:
        Costs by title: the plain backbone, the backbone with the method, the model that tests use,
        and both folded, if they have a top-down module.
    """
    model = build_model(cfg).to('meta')
    backbone = backbone_of(model, 'FLOPs')
    # Batch norm on a pooled map needs two images.
    images = torch.rand(2, getattr(backbone, 'in_channels', 3), *size, device='meta')
    found = {}
    if isinstance(backbone, TransferBackbone):
        found['plain backbone'] = _cost(plain_backbone(cfg), images)
    steered = steered_backbone(model) is not None
    passes = ', both passes' if steered else ''
    found[f'backbone{passes}'] = _cost(backbone, images)
    found[f'model{passes}'] = _cost(model, images, mode='tensor')
    if steered and not backbone.folded:
        with torch.device('meta'):
            backbone.fold()
        model.requires_grad_(False)  # a folded model is not trained
        found['backbone, folded'] = _cost(backbone, images)
        found['model, folded'] = _cost(model, images, mode='tensor')
    return found


def plain_backbone(cfg: Config) -> nn.Module:
    """The backbone of a config without steering and without a method, and without its weights."""
    backbone = copy.deepcopy(cfg.model.backbone)
    backbone.update(feedback_from=None, **{key: None for key in _METHOD if key in backbone})
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        return MODELS.build(backbone).to('meta')


def _cost(module: nn.Module, images: Tensor, **arguments: Any) -> Cost:
    module.eval()
    with torch.no_grad():
        flops = flops_per_image(lambda batch: module(batch, **arguments), images)
    numbers = [(p.numel(), p.requires_grad) for p in module.parameters()]
    return Cost(flops, sum(n for n, _ in numbers), sum(n for n, tuned in numbers if tuned))
