"""AdaptFormer: a bottleneck beside the feed-forward network.

Chen et al., `AdaptFormer <https://arxiv.org/abs/2205.13535>`_.
"""

from __future__ import annotations

from math import sqrt
from typing import cast

import torch
from mmcv.cnn.bricks.transformer import FFN
from torch import Tensor, nn

from toast_mm.models.backbones.transfer import TransferBackbone
from toast_mm.models.peft.base import TunedLayer, TuningDropout, TuningMethod, give_subclass
from toast_mm.registry import MODELS

from .targets import base_modules


class AdaptedFFN(TunedLayer, FFN):
    """mmcv's feed-forward network with a bottleneck in parallel."""

    adapter: nn.Sequential
    adapter_scale: Tensor

    def forward(self, x: Tensor, identity: Tensor | None = None) -> Tensor:
        """Normed tokens ``(B, N, C)`` and the stream to the stream."""
        return super().forward(x, identity) + self.adapter_scale * self.adapter(x)

    def reset_tuning(self) -> None:
        """The bottleneck adds nothing at the start."""
        down, up = cast(nn.Linear, self.adapter[0]), cast(nn.Linear, self.adapter[-1])
        nn.init.kaiming_uniform_(down.weight, a=sqrt(5))
        for zero in (down.bias, up.weight, up.bias):
            nn.init.zeros_(zero)


@MODELS.register_module()
class AdaptFormer(TuningMethod):
    """``x + FFN(LN(x)) + scale * Up(ReLU(Down(LN(x))))`` in every block (sec. 3.2 there).

    As in the paper; its published code has an option for x without the norm.

    Args:
        bottleneck: Inner width. Defaults to 64.
        scale: Factor of the added branch. Defaults to 0.1.
        drop_rate: Dropout in the bottleneck. Defaults to 0.

    Raises:
        ValueError: The width is below 1.
    """

    def __init__(self, bottleneck: int = 64, scale: float = 0.1, drop_rate: float = 0.0) -> None:
        if bottleneck < 1:
            raise ValueError(f'bottleneck={bottleneck} of AdaptFormer must be at least 1')
        self.bottleneck = bottleneck
        self.scale = scale
        self.drop_rate = drop_rate

    def attach(self, backbone: TransferBackbone) -> None:
        """Give every feed-forward network its bottleneck.

        Raises:
            ValueError: There is no feed-forward network, or it is of a class of its own.
        """
        networks = [found for found in base_modules(backbone) if isinstance(found[1], FFN)]
        if not networks:
            raise ValueError(
                f'AdaptFormer stands beside the feed-forward networks (FFN) of a transformer, and '
                f'this {type(backbone).__name__} has none; it fits toast_mm.TOASTViT'
            )
        for name, network in networks:
            give_subclass(network, {FFN: AdaptedFFN}, name, 'AdaptFormer')
            network.adapter = nn.Sequential(
                nn.Linear(network.embed_dims, self.bottleneck),
                nn.ReLU(),
                TuningDropout(self.drop_rate),
                nn.Linear(self.bottleneck, network.embed_dims),
            )
            # With the weights in the checkpoint, since another scale is another branch.
            network.register_buffer('adapter_scale', torch.tensor(self.scale))
            network.reset_tuning()
