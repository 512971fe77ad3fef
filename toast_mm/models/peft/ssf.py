"""SSF: scale and shift after every operation.

Lian et al., `Scaling & Shifting Your Features <https://arxiv.org/abs/2210.08823>`_.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import timm.layers
from mmcv.cnn import Conv2d, Linear
from mmpretrain.models.utils import LayerNorm2d
from torch import Tensor, nn

from toast_mm.models.layers import check_exact, replace_layers
from toast_mm.registry import MODELS

from .base import EVERYTHING, MergeableLayer, Tuner

if TYPE_CHECKING:
    from typing_extensions import Self

    from toast_mm.models.backbones.transfer import TransferBackbone


class ScaledLayer(MergeableLayer):
    """Mixin of a layer that scales and shifts its output channel by channel."""

    added = ('ssf_scale', 'ssf_shift')

    ssf_scale: nn.Parameter  # (C,)
    ssf_shift: nn.Parameter  # (C,)

    @classmethod
    def from_layer(cls, layer: nn.Module) -> Self:
        """Make a layer with scale and shift that shares the parameters of the given one."""
        scaled = super().from_layer(layer)
        weight = layer.get_parameter('weight')
        scaled.ssf_scale = nn.Parameter(weight.new_empty(len(weight)))
        scaled.ssf_shift = nn.Parameter(weight.new_empty(len(weight)))
        scaled.reset_tuning()
        return scaled

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``scale * layer(x) + shift``, channels last."""
        return super().forward(x, *args, **kwargs) * self.ssf_scale + self.ssf_shift

    def reset_tuning(self) -> None:
        """Initialise scale and shift near the identity, as published."""
        nn.init.normal_(self.ssf_scale, mean=1.0, std=0.02)
        nn.init.normal_(self.ssf_shift, std=0.02)

    def effective_weight(self, rows: slice = EVERYTHING) -> tuple[Tensor, Tensor | None]:
        """Weight and bias that include scale and shift."""
        scale, shift = self.ssf_scale[rows], self.ssf_shift[rows]
        weight = self.weight[rows] * scale.reshape(-1, *[1] * (self.weight.ndim - 1))
        return weight, shift if self.bias is None else self.bias[rows] * scale + shift

    def check_mergeable(self) -> None:
        """Check that the layer has a bias, which takes the shift.

        Raises:
            ValueError: It has none, or its forward was replaced.
        """
        super().check_mergeable()
        if self.bias is None:
            raise ValueError(f'{self} cannot be merged: it has no bias, which would take the shift')


class ScaledLinear(ScaledLayer, nn.Linear):  # type: ignore[misc]
    """Linear layer, scaled and shifted."""


class ScaledLayerNorm(ScaledLayer, nn.LayerNorm):  # type: ignore[misc]
    """Layer norm, scaled and shifted."""


class ScaledTimmLayerNorm(ScaledLayer, timm.layers.LayerNorm):  # type: ignore[misc]
    """timm's layer norm, scaled and shifted."""


class ScaledConv2d(ScaledLayer, nn.Conv2d):
    """Convolution, scaled and shifted."""

    def forward(self, x: Tensor) -> Tensor:
        """``scale * layer(x) + shift`` of a map ``(B, C, H, W)``."""
        x = super(ScaledLayer, self).forward(x)
        return x * self.ssf_scale[:, None, None] + self.ssf_shift[:, None, None]


class ScaledConv2dSame(ScaledConv2d, timm.layers.Conv2dSame):
    """timm's convolution with the padding of TensorFlow, scaled and shifted."""


class ScaledTimmLayerNorm2d(ScaledLayer, timm.layers.LayerNorm2d):
    """timm's layer norm of maps, scaled and shifted."""

    def forward(self, x: Tensor) -> Tensor:
        """Scaled and shifted norm of a map ``(B, C, H, W)``."""
        x = super(ScaledLayer, self).forward(x)
        return x * self.ssf_scale[:, None, None] + self.ssf_shift[:, None, None]


class ScaledLayerNorm2d(ScaledLayer, LayerNorm2d):
    """mmpretrain's layer norm of maps, scaled and shifted."""

    def forward(self, x: Tensor, data_format: str = 'channel_first') -> Tensor:
        """Scaled and shifted norm of a map, channels first or last."""
        scale: Tensor = self.ssf_scale
        shift: Tensor = self.ssf_shift
        if data_format == 'channel_first':
            scale, shift = scale[:, None, None], shift[:, None, None]
        return LayerNorm2d.forward(self, x, data_format) * scale + shift


SCALED: dict[type[Any], type[ScaledLayer]] = {
    LayerNorm2d: ScaledLayerNorm2d,
    timm.layers.LayerNorm2d: ScaledTimmLayerNorm2d,
    timm.layers.Conv2dSame: ScaledConv2dSame,
    nn.LayerNorm: ScaledLayerNorm,
    timm.layers.LayerNorm: ScaledTimmLayerNorm,
    nn.Linear: ScaledLinear,
    nn.Conv2d: ScaledConv2d,
    # mmcv's classes are PyTorch's, except for empty inputs in old versions.
    Linear: ScaledLinear,
    Conv2d: ScaledConv2d,
}


@MODELS.register_module()
class SSF(Tuner):
    """Scale and shift after every linear layer, convolution and layer norm of the backbone."""

    def inject(self, backbone: TransferBackbone) -> None:
        """Give every operation its scale and shift.

        Raises:
            ValueError: An operation is not exactly of a known class.
        """
        scaled: dict[nn.Module, nn.Module] = {}
        for name, layer in backbone.base_modules():
            if any(isinstance(layer, kind) for kind in SCALED):
                check_exact(layer, SCALED, name, 'SSF')
                scaled[layer] = SCALED[type(layer)].from_layer(layer)
        replace_layers(backbone, scaled)
