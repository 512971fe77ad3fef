"""LoRA: low-rank updates of linear layers.

Hu et al., `LoRA <https://arxiv.org/abs/2106.09685>`_.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from mmcv.cnn import Linear
from torch import Tensor, nn

from toast_mm.models.layers import check_exact, replace_layers
from toast_mm.registry import MODELS
from toast_mm.topdown.low_rank import check_low_rank, reset_low_rank

from .base import EVERYTHING, MergeableLayer, Tuner, TuningDropout
from .targets import find_layers

if TYPE_CHECKING:
    from typing_extensions import Self

    from toast_mm.models.backbones.transfer import TransferBackbone

# mmcv's class is PyTorch's, except for empty inputs in old versions.
LINEAR = (nn.Linear, Linear)


class LoRALinear(MergeableLayer, nn.Linear):
    """Linear layer with a low-rank update: ``W x + alpha / rank * up(down(x)) + b``."""

    added = ('lora_down', 'lora_up', 'lora_dropout', 'scaling')

    lora_down: nn.Linear
    lora_up: nn.Linear
    lora_dropout: TuningDropout
    scaling: Tensor

    @classmethod
    def from_linear(
        cls, linear: nn.Linear, rank: int, alpha: float = 1.0, drop_rate: float = 0.0
    ) -> Self:
        """Make a layer that shares the parameters of the given one; its update starts at zero."""
        layer = cls.from_layer(linear)
        like: Any = dict(bias=False, device=linear.weight.device, dtype=linear.weight.dtype)
        layer.lora_down = nn.Linear(linear.in_features, rank, **like)
        layer.lora_up = nn.Linear(rank, linear.out_features, **like)
        layer.lora_dropout = TuningDropout(drop_rate)
        # A buffer, so that checkpoints hold it: with another scale the update is another one.
        scaling = torch.tensor(alpha / rank, device=linear.weight.device)
        layer.register_buffer('scaling', scaling.to(linear.weight.dtype))
        layer.reset_tuning()
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(..., in)`` to ``(..., out)``."""
        return (
            super().forward(x) + self.lora_up(self.lora_down(self.lora_dropout(x))) * self.scaling
        )

    def reset_tuning(self) -> None:
        """Initialise the update; it is zero at the start."""
        reset_low_rank(self.lora_down.weight, self.lora_up.weight)

    def effective_weight(self, rows: slice = EVERYTHING) -> tuple[Tensor, Tensor | None]:
        """``W + alpha / rank * up @ down``, and the bias."""
        update = self.scaling * (self.lora_up.weight[rows] @ self.lora_down.weight)
        return self.weight[rows] + update, None if self.bias is None else self.bias[rows]


@MODELS.register_module()
class LoRA(Tuner):
    """Low-rank updates ``alpha / rank * up @ down`` of linear layers.

    Args:
        rank: Inner width of the updates. Defaults to 4.
        alpha: The updates are scaled by ``alpha / rank``. Defaults to 1.
        drop_rate: Dropout on the input of the updates. Defaults to 0.
        targets: Layers that get an update: a sequence of the last parts of their names, or a
            regular expression for whole names. Defaults to the fused ``qkv`` of a ViT and the
            pointwise layers of a ConvNeXt.

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
            ValueError: A target matches no linear layer, or one that is not exactly a known class.
        """
        targets = backbone.lora_targets if self.targets is None else self.targets
        updated: dict[nn.Module, nn.Module] = {}
        for name, layer in find_layers(backbone, targets, nn.Linear).items():
            check_exact(layer, LINEAR, name, 'LoRA (targets)')
            updated[layer] = LoRALinear.from_linear(layer, self.rank, self.alpha, self.drop_rate)
        replace_layers(backbone, updated)
