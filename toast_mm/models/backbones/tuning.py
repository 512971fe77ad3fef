"""What a backbone knows of the methods that tune it: layers with parameters beside their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from .transfer import TransferBackbone


class TuningMethod(ABC):
    """A way to tune a frozen backbone: it adds to its layers, or wakes some of its parameters.

    Layers get a subclass that adds its own parameters beside theirs, so that every name of the
    backbone stays as it is. Configs choose a method by the backbone's argument ``tuning``.
    """

    @abstractmethod
    def attach(self, backbone: TransferBackbone) -> None:
        """Add what is tuned, and let it train; all else is frozen already.

        Raises:
            ValueError: The method does not fit the backbone.
        """


class TunedLayer(nn.Module):
    """A layer with parameters of a method beside its own."""

    def reset_tuning(self) -> None:
        """Initialise the method's parameters; the backbone's initialisers would do it their way."""
        raise NotImplementedError


class MergeableLayer(TunedLayer):
    """A layer whose tuned form is a layer of its kind with other weights."""

    weight: Any  # these are those of the layer's other parent
    bias: Any
    plain: Any  # the class that it had

    def tuned_parameters(self, rows: slice = slice(None)) -> tuple[Tensor, Tensor | None]:
        """Weight and bias, of these outputs, that give the same without the method."""
        raise NotImplementedError

    def check_mergeable(self) -> None:
        """Raise a ValueError if there is no such layer."""

    def remove_tuning(self) -> None:
        """Drop the method's parameters."""
        self.__class__ = self.plain

    @torch.no_grad()
    def merge(self) -> None:
        """Write the tuned weight and bias into the layer, which is plain from then on."""
        weight, bias = self.tuned_parameters()
        self.weight.copy_(weight)
        if self.bias is not None and bias is not None:
            self.bias.copy_(bias)
        self.remove_tuning()


class TuningDropout(nn.Dropout):
    """Dropout of a method: it acts in the second pass only, as stochastic depth does."""


def tuned_parameters(layer: nn.Linear, rows: slice = slice(None)) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of some outputs of a linear layer, with what a method does to them."""
    if isinstance(layer, MergeableLayer):
        return layer.tuned_parameters(rows)
    return layer.weight[rows], None if layer.bias is None else layer.bias[rows]
