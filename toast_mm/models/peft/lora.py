"""LoRA: low-rank updates of linear layers.

Hu et al., `LoRA <https://arxiv.org/abs/2106.09685>`_. The layer is mmpretrain's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import sqrt

import torch
from mmcv.cnn import Linear
from mmpretrain.models.peft.lora import LoRALinear
from torch import Tensor, nn

from toast_mm.models.backbones.transfer import TransferBackbone
from toast_mm.models.peft.base import (
    MergeableLayer,
    TuningDropout,
    TuningMethod,
    give_subclass,
)
from toast_mm.registry import MODELS

from .targets import find_layers


class UpdatedLinear(MergeableLayer, LoRALinear, nn.Linear):
    """mmpretrain's LoRA layer that is its own original layer: weight and bias keep their names."""

    lora_down: nn.Linear
    lora_up: nn.Linear
    scaling: Tensor

    @property
    def original_layer(self) -> Callable[[Tensor], Tensor]:
        """The layer without its update."""
        return partial(nn.Linear.forward, self)

    def reset_tuning(self) -> None:
        """No update at the start."""
        nn.init.kaiming_uniform_(self.lora_down.weight, a=sqrt(5))
        nn.init.zeros_(self.lora_up.weight)

    def tuned_parameters(self, rows: slice = slice(None)) -> tuple[Tensor, Tensor | None]:
        """``W + alpha / rank * up @ down``, and the bias."""
        update = self.scaling * (self.lora_up.weight[rows] @ self.lora_down.weight)
        return self.weight[rows] + update, None if self.bias is None else self.bias[rows]

    def remove_tuning(self) -> None:
        """Back to a linear layer."""
        del self.lora_down, self.lora_up, self.lora_dropout, self.scaling
        super().remove_tuning()


# mmcv's is PyTorch's, but for empty inputs of old versions.
UPDATED = {nn.Linear: UpdatedLinear, Linear: UpdatedLinear}


@MODELS.register_module()
class LoRA(TuningMethod):
    """Low-rank updates ``alpha / rank * up @ down`` of linear layers.

    Args:
        rank: Inner width of the updates. Defaults to 4.
        alpha: Their scale is ``alpha / rank``. Defaults to 1.
        drop_rate: Dropout on their input. Defaults to 0.
        targets: Layers that get an update: last parts of their names, or a regular expression for
            whole names. Defaults to the fused ``qkv`` of a ViT and the pointwise layers of a
            ConvNeXt.

    Raises:
        ValueError: The rank is below 1.
    """

    def __init__(
        self,
        rank: int = 4,
        alpha: float = 1.0,
        drop_rate: float = 0.0,
        targets: str | Sequence[str] | None = None,
    ) -> None:
        if rank < 1:
            raise ValueError(f'rank={rank} of LoRA must be at least 1')
        if alpha <= 0:
            raise ValueError(f'alpha={alpha} of LoRA must be above 0')
        self.rank = rank
        self.alpha = alpha
        self.drop_rate = drop_rate
        self.targets = targets

    def attach(self, backbone: TransferBackbone) -> None:
        """Give every target its update.

        Raises:
            ValueError: A target matches no linear layer, of which it lists those that there are, or
                one of a class of its own.
        """
        targets = backbone.lora_targets if self.targets is None else self.targets
        for name, layer in find_layers(backbone, targets, nn.Linear).items():
            lora = LoRALinear(layer, self.alpha, self.rank, self.drop_rate)
            give_subclass(layer, UPDATED, name, 'LoRA (targets)')
            layer.lora_down, layer.lora_up = lora.lora_down, lora.lora_up
            layer.lora_dropout = TuningDropout(self.drop_rate)
            # With the weights in the checkpoint, since another scale is another update.
            layer.register_buffer('scaling', torch.tensor(lora.scaling))
