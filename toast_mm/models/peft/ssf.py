"""SSF: scale and shift after every operation.

Lian et al., `Scaling & Shifting Your Features <https://arxiv.org/abs/2210.08823>`_.
"""

from __future__ import annotations

from typing import Any

import torch
from mmcv.cnn import Conv2d, Linear
from mmpretrain.models.utils import LayerNorm2d
from torch import Tensor, nn

from toast_mm.models.backbones.transfer import TransferBackbone
from toast_mm.models.peft.base import MergeableLayer, TuningMethod, give_subclass
from toast_mm.registry import MODELS

from .targets import base_modules


class ScaledLayer(MergeableLayer):
    """Before a layer: its output is scaled and shifted channel by channel."""

    ssf_scale: nn.Parameter  # (C,)
    ssf_shift: nn.Parameter  # (C,)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``scale * layer(x) + shift``, channels last."""
        return super().forward(x, *args, **kwargs) * self.ssf_scale + self.ssf_shift

    def reset_tuning(self) -> None:
        """Near the identity, as published."""
        nn.init.normal_(self.ssf_scale, mean=1.0, std=0.02)
        nn.init.normal_(self.ssf_shift, std=0.02)

    def tuned_parameters(self, rows: slice = slice(None)) -> tuple[Tensor, Tensor | None]:
        """Scale and shift in weight and bias."""
        scale, shift = self.ssf_scale[rows], self.ssf_shift[rows]
        weight = self.weight[rows]
        weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
        return weight, shift if self.bias is None else self.bias[rows] * scale + shift

    def remove_tuning(self) -> None:
        """Back to the layer."""
        del self.ssf_scale, self.ssf_shift
        super().remove_tuning()

    def check_mergeable(self) -> None:
        """The shift needs a bias.

        Raises:
            ValueError: The layer has none.
        """
        if self.bias is None:
            raise ValueError(f'{self} has no bias that could hold the shift: it cannot be merged')


class ScaledLinear(ScaledLayer, nn.Linear):  # type: ignore[misc]
    """Linear layer, scaled and shifted."""


class ScaledLayerNorm(ScaledLayer, nn.LayerNorm):  # type: ignore[misc]
    """Layer norm, scaled and shifted."""


class ScaledConv2d(ScaledLayer, nn.Conv2d):
    """Convolution, scaled and shifted."""

    def forward(self, x: Tensor) -> Tensor:
        """``scale * layer(x) + shift`` of a map ``(B, C, H, W)``."""
        x = nn.Conv2d.forward(self, x)
        return x * self.ssf_scale[:, None, None] + self.ssf_shift[:, None, None]


class ScaledLayerNorm2d(ScaledLayer, LayerNorm2d):
    """mmpretrain's layer norm of maps, scaled and shifted: as one with other weight and bias."""

    def forward(self, x: Tensor, data_format: str = 'channel_first') -> Tensor:
        """Map, channels first or last."""
        scale: Tensor = self.ssf_scale
        shift: Tensor = self.ssf_shift
        if data_format == 'channel_first':
            scale, shift = scale[:, None, None], shift[:, None, None]
        return LayerNorm2d.forward(self, x, data_format) * scale + shift


SCALED: dict[type, Any] = {
    LayerNorm2d: ScaledLayerNorm2d,
    nn.LayerNorm: ScaledLayerNorm,
    nn.Linear: ScaledLinear,
    nn.Conv2d: ScaledConv2d,
    # mmcv's are PyTorch's, but for empty inputs of old versions.
    Linear: ScaledLinear,
    Conv2d: ScaledConv2d,
}


@MODELS.register_module()
class SSF(TuningMethod):
    """Scale and shift behind every linear layer, convolution and layer norm of the backbone."""

    def attach(self, backbone: TransferBackbone) -> None:
        """Give every operation its scale and shift.

        Raises:
            ValueError: An operation is of a class of its own.
        """
        for name, module in list(base_modules(backbone)):
            if any(isinstance(module, kind) for kind in SCALED):
                give_subclass(module, SCALED, name, 'SSF')
                channels = len(module.weight)
                module.ssf_scale = nn.Parameter(torch.empty(channels))
                module.ssf_shift = nn.Parameter(torch.empty(channels))
                module.reset_tuning()
