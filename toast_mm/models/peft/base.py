"""Base classes of the methods: tuners, and layers with additional parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from toast_mm.models.layers import stand_in

if TYPE_CHECKING:
    from typing_extensions import Self


EVERYTHING = slice(None)


class Tuner(ABC):
    """A way to tune a frozen backbone: it replaces layers, or unfreezes some parameters.

    The new layer has the parameters of the old one under the same names, and additional ones.
    Configs choose a method by the backbone's argument ``tuning``.
    """

    @abstractmethod
    def inject(self, backbone: Any) -> None:
        """Add or unfreeze the parameters to tune; all others are frozen already.

        Raises:
            ValueError: The method does not fit the backbone.
        """


@dataclass
class Tokens:
    """How the stream of a transformer is made up, for methods that add tokens.

    Attributes:
        extra: Number of tokens before those of the patches: the class token, registers.
        patches: Number of patches of an image of the size that the backbone is built for.
        patch_pixels: Number of pixels of a patch.
        channels: Number of channels of a token.
        prompts: Number of tokens that a method put between the two.
    """

    extra: int
    patches: int
    patch_pixels: int
    channels: int
    prompts: int = 0

    def without_prompts(self, stream: Tensor) -> Tensor:
        """The tokens ``(B, N, C)`` that the backbone has by itself."""
        if not self.prompts:
            return stream
        extra = stream[:, : self.extra]
        return torch.cat((extra, stream[:, self.extra + self.prompts :]), dim=1)


class TunedLayer(nn.Module):
    """A layer with the parameters of a plain layer and those of a method."""

    plain: type[nn.Module]  # the class of the layer that it replaces

    @classmethod
    def from_layer(cls, layer: nn.Module) -> Self:
        """Make a layer with the parameters and hooks of a plain one; subclasses add their own."""
        tuned = stand_in(layer, cls)
        tuned.plain = type(layer)
        return tuned

    def reset_tuning(self) -> None:
        """Initialise the method's parameters; the backbone's initialisers would overwrite them."""
        raise NotImplementedError


class MergeableLayer(TunedLayer):
    """A tuned layer that computes the same as a plain layer with other weights."""

    added: ClassVar[tuple[str, ...]] = ()  # attributes that the method adds

    weight: Any  # both come from the other parent class
    bias: Any

    def effective_weight(self, rows: slice = EVERYTHING) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the plain layer that computes the same, for some of the outputs."""
        raise NotImplementedError

    def check_mergeable(self) -> None:
        """Check that a plain layer can replace this one.

        Raises:
            ValueError: It cannot, such as when the forward was replaced.
        """
        if {'forward', '_compiled_call_impl'} & vars(self).keys():
            raise ValueError(
                f'a {type(self).__name__} cannot be merged, since its forward was replaced: merge '
                'before the layer is compiled or wrapped'
            )

    @torch.no_grad()
    def merge(self) -> nn.Module:
        """Write the effective weight into the parameters and return a plain layer with them."""
        weight, bias = self.effective_weight()
        self.weight.copy_(weight)
        if self.bias is not None and bias is not None:
            self.bias.copy_(bias)
        layer = stand_in(self, self.plain)
        for name in (*self.added, 'plain'):
            delattr(layer, name)
        return layer


class TuningDropout(nn.Dropout):
    """Dropout of a method. It acts in the second pass only, like stochastic depth."""


def is_linear(layer: nn.Module) -> bool:
    """Whether a layer is linear in the channels: a linear layer, or a 1 x 1 convolution."""
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size == (1, 1) and layer.groups == 1
    return isinstance(layer, nn.Linear)


def effective_weight(layer: nn.Linear, rows: slice = EVERYTHING) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of some outputs of a linear layer, including the update of a method."""
    if isinstance(layer, MergeableLayer):
        return layer.effective_weight(rows)
    return layer.weight[rows], None if layer.bias is None else layer.bias[rows]
