"""AdaptFormer: a bottleneck beside the feed-forward network.

Chen et al., `AdaptFormer <https://arxiv.org/abs/2205.13535>`_.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any, cast

import torch
from mmcv.cnn.bricks.transformer import FFN
from torch import Tensor, nn

from toast_mm.models.layers import check_exact, replace_layers
from toast_mm.registry import MODELS

from .base import TunedLayer, Tuner, TuningDropout

if TYPE_CHECKING:
    from typing_extensions import Self

    from toast_mm.models.backbones.transfer import TransferBackbone


class AdaptedFFN(TunedLayer, FFN):
    """mmcv's feed-forward network with a bottleneck in parallel."""

    adapter: nn.Sequential
    adapter_scale: Tensor

    @classmethod
    def from_ffn(cls, ffn: FFN, bottleneck: int, scale: float, drop_rate: float) -> Self:
        """Make a network with a bottleneck that shares the parameters of the given one."""
        adapted = cls.from_layer(ffn)
        weight = next(ffn.parameters())
        like: Any = dict(device=weight.device, dtype=weight.dtype)
        adapted.adapter = nn.Sequential(
            nn.Linear(ffn.embed_dims, bottleneck, **like),
            nn.ReLU(),
            TuningDropout(drop_rate),
            nn.Linear(bottleneck, ffn.embed_dims, **like),
        )
        # A buffer, so that checkpoints hold it: with another scale the branch is another one.
        adapted.register_buffer('adapter_scale', torch.tensor(scale, **like))
        adapted.reset_tuning()
        return adapted

    def forward(self, x: Tensor, identity: Tensor | None = None) -> Tensor:
        """Normed tokens ``(B, N, C)`` and the residual stream to the new stream."""
        return super().forward(x, identity) + self.adapter_scale * self.adapter(x)

    def reset_tuning(self) -> None:
        """Initialise the bottleneck; it adds nothing at the start."""
        down, up = cast(nn.Linear, self.adapter[0]), cast(nn.Linear, self.adapter[-1])
        nn.init.kaiming_uniform_(down.weight, a=sqrt(5))
        for zero in (down.bias, up.weight, up.bias):
            nn.init.zeros_(zero)


@MODELS.register_module()
class AdaptFormer(Tuner):
    """``x + FFN(LN(x)) + scale * Up(ReLU(Down(LN(x))))`` in every block (their sec. 3.2).

    This follows the paper. The published code can also feed x without the norm.

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

    def inject(self, backbone: TransferBackbone) -> None:
        """Give every feed-forward network its bottleneck.

        Raises:
            ValueError: There is no feed-forward network, or one is not exactly mmcv's ``FFN``.
        """
        networks = [found for found in backbone.base_modules() if isinstance(found[1], FFN)]
        if not networks:
            raise ValueError(
                'AdaptFormer extends the feed-forward networks (FFN) of a transformer, but this '
                f'{type(backbone).__name__} has none; it fits toast_mm.TOASTViT'
            )
        adapted: dict[nn.Module, nn.Module] = {}
        for name, ffn in networks:
            check_exact(ffn, [FFN], name, 'AdaptFormer')
            adapted[ffn] = AdaptedFFN.from_ffn(ffn, self.bottleneck, self.scale, self.drop_rate)
        replace_layers(backbone, adapted)
