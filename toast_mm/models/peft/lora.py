"""LoRA: low-rank updates of linear layers and 1 x 1 convolutions.

Hu et al., `LoRA <https://arxiv.org/abs/2106.09685>`_.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from mmcv.cnn import Conv2d, Linear
from torch import Tensor, nn

from toast_mm.models.layers import check_exact, replace_layers
from toast_mm.registry import MODELS
from toast_mm.topdown.low_rank import check_low_rank, reset_low_rank

from .base import EVERYTHING, MergeableLayer, Tuner, TuningDropout, is_linear
from .targets import find_fitting

if TYPE_CHECKING:
    from typing_extensions import Self

    from toast_mm.models.backbones.transfer import TransferBackbone

# mmcv's classes are PyTorch's, except for empty inputs in old versions.
LINEAR = (nn.Linear, Linear)
CONVOLUTIONS = (nn.Conv2d, Conv2d)


class LoRALayer(MergeableLayer):
    """Mixin of a layer with a low-rank update: ``W x + alpha / rank * up(down(x)) + b``."""

    added = ('lora_down', 'lora_up', 'lora_dropout', 'scaling')

    lora_down: nn.Linear | nn.Conv2d
    lora_up: nn.Linear | nn.Conv2d
    lora_dropout: TuningDropout
    scaling: Tensor

    def add_update(
        self,
        down: nn.Linear | nn.Conv2d,
        up: nn.Linear | nn.Conv2d,
        alpha: float,
        drop_rate: float,
    ) -> None:
        """Add the two layers of an update, which starts at zero."""
        self.lora_down, self.lora_up = down.to(self.weight), up.to(self.weight)
        self.lora_dropout = TuningDropout(drop_rate)
        # A buffer, so that checkpoints hold it: with another scale the update is another one.
        scaling = torch.tensor(alpha / len(down.weight), device=self.weight.device)
        self.register_buffer('scaling', scaling.to(self.weight.dtype))
        self.reset_tuning()

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(..., in)`` to ``(..., out)``, or a map ``(B, in, H, W)`` to a map."""
        return (
            super().forward(x) + self.lora_up(self.lora_down(self.lora_dropout(x))) * self.scaling
        )

    def reset_tuning(self) -> None:
        """Initialise the update; it is zero at the start."""
        reset_low_rank(self.lora_down.weight, self.lora_up.weight)

    def effective_weight(self, rows: slice = EVERYTHING) -> tuple[Tensor, Tensor | None]:
        """``W + alpha / rank * up @ down``, and the bias."""
        weight, bias = self.weight[rows], None if self.bias is None else self.bias[rows]
        down, up = self.lora_down.weight.flatten(1), self.lora_up.weight.flatten(1)
        return weight + (self.scaling * (up[rows] @ down)).reshape(weight.shape), bias


class LoRALinear(LoRALayer, nn.Linear):
    """Linear layer with a low-rank update."""

    @classmethod
    def from_linear(
        cls, linear: nn.Linear, rank: int, alpha: float = 1.0, drop_rate: float = 0.0
    ) -> Self:
        """Make a layer that shares the parameters of the given one; its update starts at zero."""
        layer = cls.from_layer(linear)
        down = nn.Linear(linear.in_features, rank, bias=False)
        layer.add_update(down, nn.Linear(rank, linear.out_features, bias=False), alpha, drop_rate)
        return layer


class LoRAConv2d(LoRALayer, nn.Conv2d):
    """1 x 1 convolution with a low-rank update."""

    @classmethod
    def from_conv(
        cls, conv: nn.Conv2d, rank: int, alpha: float = 1.0, drop_rate: float = 0.0
    ) -> Self:
        """Make a layer that shares the parameters of the given one; its update starts at zero."""
        layer = cls.from_layer(conv)
        strides: Any = dict(stride=conv.stride, padding=conv.padding, bias=False)
        down = nn.Conv2d(conv.in_channels, rank, 1, **strides)
        layer.add_update(down, nn.Conv2d(rank, conv.out_channels, 1, bias=False), alpha, drop_rate)
        return layer


@MODELS.register_module()
class LoRA(Tuner):
    """Low-rank updates ``alpha / rank * up @ down`` of linear layers and 1 x 1 convolutions.

    Args:
        rank: Inner width of the updates. Defaults to 4.
        alpha: The updates are scaled by ``alpha / rank``. Defaults to 1.
        drop_rate: Dropout on the input of the updates. Defaults to 0.
        targets: Layers that get an update: a sequence of the last parts of their names, or a
            regular expression for whole names. Defaults to the fused ``qkv`` of a ViT and the
            pointwise layers of a convolutional network.

    Raises:
        ValueError: The rank is below 1, or alpha is not above 0.
    """

    def __init__(
        self,
        rank: int = 4,
        alpha: float = 1.0,
        drop_rate: float = 0.0,
        targets: str | Sequence[str] | None = None,
    ) -> None:
        check_low_rank(rank, alpha)
        self.rank = rank
        self.alpha = alpha
        self.drop_rate = drop_rate
        self.targets = targets

    def inject(self, backbone: TransferBackbone) -> None:
        """Give every target its update.

        Raises:
            ValueError: A target matches no such layer, or one that is not exactly a known class, or
                the backbone has no layers for LoRA.
        """
        targets = backbone.lora_targets if self.targets is None else self.targets
        if self.targets is None and not targets:
            raise ValueError(
                f'this {type(backbone).__name__} has no pointwise layers that LoRA usually '
                'updates: name layers by targets=..., or choose another method'
            )
        arguments = (self.rank, self.alpha, self.drop_rate)
        updated: dict[nn.Module, nn.Module] = {}
        what = 'linear layer or 1 x 1 convolution'
        for name, layer in find_fitting(backbone, targets, is_linear, what).items():
            check_exact(layer, (*LINEAR, *CONVOLUTIONS), name, 'LoRA (targets)')
            if isinstance(layer, nn.Linear):
                updated[layer] = LoRALinear.from_linear(layer, *arguments)
            else:
                updated[layer] = LoRAConv2d.from_conv(layer, *arguments)
        replace_layers(backbone, updated)
