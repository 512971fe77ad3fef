"""What a backbone knows of the methods that tune it: layers with parameters beside their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from toast_mm.models.backbones.transfer import TransferBackbone


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


def give_subclass(layer: nn.Module, subclasses: Mapping[type, Any], name: str, by: str) -> None:
    """Give a layer the subclass of its class, in place: its parameters keep their names.

    A layer of any other class has a forward of its own or is used in a way of its own, which the
    subclass would silently replace or miss.

    Args:
        layer: Gets the subclass.
        subclasses: Subclass by the exact class of a layer.
        name: Name of the layer.
        by: What asks for it, such as the name of a method.

    Raises:
        ValueError: The layer is of none of these classes, or its forward or weight is replaced.
    """
    kind = type(layer)
    known = ', '.join(f'{known.__module__}.{known.__qualname__}' for known in subclasses)
    problem = None
    if kind not in subclasses:
        problem = f'a {kind.__module__}.{kind.__qualname__}'
    elif 'forward' in vars(layer):
        problem = f'a {kind.__qualname__} whose forward was replaced'
    elif issubclass(subclasses[kind], MergeableLayer) and 'weight' not in layer._parameters:
        problem = f'a {kind.__qualname__} whose weight is computed from others'
    if problem:
        raise ValueError(
            f'{by} does not fit {name}, which is {problem}: what that computes would be lost; it '
            f'fits layers that are exactly {known}'
        )
    layer.__class__ = subclasses[kind]
    if isinstance(layer, MergeableLayer):
        layer.plain = kind


def tuned_parameters(layer: nn.Linear, rows: slice = slice(None)) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of some outputs of a linear layer, with what a method does to them."""
    if isinstance(layer, MergeableLayer):
        return layer.tuned_parameters(rows)
    return layer.weight[rows], None if layer.bias is None else layer.bias[rows]
