"""Freezing backbones that cannot freeze themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from mmengine.model import BaseModule

from toast_mm.registry import MODELS

if TYPE_CHECKING:
    from typing_extensions import Self


@MODELS.register_module()
class FrozenBackbone(BaseModule):
    """A frozen backbone of any class: no gradients, and always in eval mode.

    Statistics of batch norms stay as they are, and neither dropout nor drop path acts. Names of its
    weights begin with ``backbone.``.

    Args:
        backbone: Config of the backbone, with its pre-trained weights.
        init_cfg: Initialisation of the wrapper, which needs none.

    Example:
        >>> backbone = dict(
        ...     type='toast_mm.FrozenBackbone',
        ...     backbone=dict(
        ...         type='mmpretrain.TIMMBackbone', model_name='resnet18', features_only=True,
        ...         pretrained=True))
    """

    def __init__(self, backbone: dict, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.backbone = MODELS.build(backbone)
        self.backbone.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the wrapper; the backbone stays in eval mode."""
        super().train(mode)
        self.backbone.train(False)
        return self

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the backbone without a graph."""
        return self.backbone(*args, **kwargs)
