"""Tuning parameters that the backbone already has: its last blocks, or its biases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toast_mm.registry import MODELS

from .base import Tuner

if TYPE_CHECKING:
    from toast_mm.models.backbones.transfer import TransferBackbone


@MODELS.register_module()
class Partial(Tuner):
    """Tune the last blocks of a ViT (stages of a ConvNeXt), and the norm after them.

    Args:
        blocks: Number of blocks. Defaults to 1.
    """

    def __init__(self, blocks: int = 1) -> None:
        self.blocks = blocks

    def inject(self, backbone: TransferBackbone) -> None:
        """Unfreeze the blocks.

        Raises:
            ValueError: The backbone has fewer.
        """
        if not 1 <= self.blocks <= backbone.depth:
            raise ValueError(
                f'blocks={self.blocks} of Partial must be 1..{backbone.depth}: this '
                f'{type(backbone).__name__} has {backbone.depth} blocks'
            )
        for block in range(backbone.depth - self.blocks, backbone.depth):
            for module in backbone.block_modules(block):
                module.requires_grad_(True)


@MODELS.register_module()
class BitFit(Tuner):
    """Tune all biases, including those of the norms and those beside a layer.

    Ben Zaken et al., `BitFit <https://arxiv.org/abs/2106.10199>`_.
    """

    def inject(self, backbone: TransferBackbone) -> None:
        """Unfreeze the biases."""
        for _, module in backbone.base_modules():
            for name, parameter in module.named_parameters(recurse=False):
                if name == 'bias' or name.endswith('_bias'):
                    parameter.requires_grad_(True)
