"""AdaptFormer: a bottleneck beside the feed-forward network.

Chen et al., `AdaptFormer <https://arxiv.org/abs/2205.13535>`_.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any, cast

import torch
from mmcv.cnn.bricks.transformer import FFN
from timm.layers import GlobalResponseNormMlp, GluMlp, Mlp, SwiGLU
from timm.models.convnext import ConvNeXtBlock
from timm.models.eva import EvaBlock, EvaBlockPostNorm
from timm.models.swin_transformer import SwinTransformerBlock
from timm.models.swin_transformer_v2 import SwinTransformerV2Block
from timm.models.vision_transformer import Block, ResPostBlock
from torch import Tensor, nn

from toast_mm.models.layers import check_exact, replace_layers
from toast_mm.registry import MODELS

from .base import TunedLayer, Tuner, TuningDropout

if TYPE_CHECKING:
    from typing_extensions import Self

    from toast_mm.models.backbones.transfer import TransferBackbone


class AdaptedNetwork(TunedLayer):
    """Mixin of a feed-forward network with a bottleneck in parallel."""

    adapter: nn.Sequential
    adapter_scale: Tensor

    @classmethod
    def from_network(
        cls, network: nn.Module, width: int, bottleneck: int, scale: float, drop_rate: float
    ) -> Self:
        """Make a network with a bottleneck that shares the parameters of the given one."""
        adapted = cls.from_layer(network)
        weight = next(network.parameters())
        like: Any = dict(device=weight.device, dtype=weight.dtype)
        adapted.adapter = nn.Sequential(
            nn.Linear(width, bottleneck, **like),
            nn.ReLU(),
            TuningDropout(drop_rate),
            nn.Linear(bottleneck, width, **like),
        )
        # A buffer, so that checkpoints hold it: with another scale the branch is another one.
        adapted.register_buffer('adapter_scale', torch.tensor(scale, **like))
        adapted.reset_tuning()
        return adapted

    def reset_tuning(self) -> None:
        """Initialise the bottleneck; it adds nothing at the start."""
        down, up = cast(nn.Linear, self.adapter[0]), cast(nn.Linear, self.adapter[-1])
        nn.init.kaiming_uniform_(down.weight, a=sqrt(5))
        for zero in (down.bias, up.weight, up.bias):
            nn.init.zeros_(zero)


class AdaptedFFN(AdaptedNetwork, FFN):
    """mmcv's feed-forward network, which adds to the stream itself, with a bottleneck."""

    def forward(self, x: Tensor, identity: Tensor | None = None) -> Tensor:
        """Normed tokens ``(B, N, C)`` and the residual stream to the new stream."""
        return super().forward(x, identity) + self.adapter_scale * self.adapter(x)


class AdaptedTimmMlp(AdaptedNetwork):
    """Mixin of a feed-forward network of timm, whose block scales it and adds it to the stream."""

    branch: Tensor | None = None  # from the network until the block adds it, channels last

    def forward(self, x: Tensor) -> Tensor:
        """Features to what the block scales, without the bottleneck."""
        first: Any = self.fc1  # a convolution takes channels first
        last = x.permute(0, 2, 3, 1) if isinstance(first, nn.Conv2d) else x
        self.branch = self.adapter_scale * self.adapter(last)
        return super().forward(x)

    def add_branch(self, drop_path: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Hook behind the last layer before the sum."""
        branch, self.branch = self.branch, None
        assert branch is not None
        return output + branch

    def add_map(self, drop_path: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """The same for a map with channels first."""
        return self.add_branch(drop_path, inputs, output.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class AdaptedMlp(AdaptedTimmMlp, Mlp):
    """timm's two layers, with a bottleneck."""


class AdaptedSwiGLU(AdaptedTimmMlp, SwiGLU):
    """timm's layers with a gate, with a bottleneck."""


class AdaptedGluMlp(AdaptedTimmMlp, GluMlp):
    """timm's layers with a gate in one, with a bottleneck."""


class AdaptedGrnMlp(AdaptedTimmMlp, GlobalResponseNormMlp):
    """The layers of a ConvNeXt v2, with a bottleneck."""


TIMM_BLOCKS = (
    Block,
    ResPostBlock,
    EvaBlock,
    EvaBlockPostNorm,
    SwinTransformerBlock,
    SwinTransformerV2Block,
    ConvNeXtBlock,
)
TIMM_MLPS: dict[type[nn.Module], type[AdaptedTimmMlp]] = {
    Mlp: AdaptedMlp,
    GlobalResponseNormMlp: AdaptedGrnMlp,
    SwiGLU: AdaptedSwiGLU,
    GluMlp: AdaptedGluMlp,
}


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
            ValueError: There is no feed-forward network, or one is not exactly of a known class.
        """
        modules = backbone.base_modules()
        arguments = (self.bottleneck, self.scale, self.drop_rate)
        adapted: dict[nn.Module, nn.Module] = {}
        for name, module in modules:
            if isinstance(module, FFN):
                check_exact(module, [FFN], name, 'AdaptFormer')
                adapted[module] = AdaptedFFN.from_network(module, module.embed_dims, *arguments)
        hooked: list[tuple[nn.Module, Any]] = []
        for name, block in modules:
            if isinstance(block, TIMM_BLOCKS):
                mlp: Any = block.mlp
                check_exact(mlp, TIMM_MLPS, f'{name}.mlp', 'AdaptFormer')
                kind = TIMM_MLPS[type(mlp)]
                adapted[mlp] = new = kind.from_network(mlp, len(mlp.fc2.weight), *arguments)
                if isinstance(block, ConvNeXtBlock):
                    hooked.append((block.drop_path, new.add_map))
                else:
                    hooked.append((block.drop_path2, new.add_branch))
        if not adapted:
            raise ValueError(
                'AdaptFormer extends the feed-forward networks (FFN) of a transformer, but this '
                f'{type(backbone).__name__} has none; it fits toast_mm.TOASTViT, and '
                'toast_mm.TOASTTimm with a Vision Transformer, a Swin or a ConvNeXt'
            )
        replace_layers(backbone, adapted)
        for drop_path, add in hooked:
            drop_path.register_forward_hook(add)
