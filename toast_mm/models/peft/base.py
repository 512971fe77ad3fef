"""What a backbone knows of the methods that tune it: layers with parameters beside their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from toast_mm.models.layers import stand_in

if TYPE_CHECKING:
    from typing_extensions import Self

    from toast_mm.models.backbones.transfer import TransferBackbone

EVERYTHING = slice(None)


class Tuner(ABC):
    """A way to tune a frozen backbone: it replaces layers, or wakes some of the parameters.

    A layer is replaced by one that has the same parameters under the same names and others beside
    them. Configs choose a method by the backbone's argument ``tuning``.
    """

    @abstractmethod
    def inject(self, backbone: TransferBackbone) -> None:
        """Add what is tuned, and let it train; all else is frozen already.

        Raises:
            ValueError: The method does not fit the backbone.
        """


class TunedLayer(nn.Module):
    """A layer with parameters of a method beside its own."""

    plain: type[nn.Module]  # the class of the layer that it replaces

    @classmethod
    def from_layer(cls, layer: nn.Module) -> Self:
        """A layer with the parameters and hooks of the given one, as yet without the method's."""
        tuned = stand_in(layer, cls)
        tuned.plain = type(layer)
        return tuned

    def reset_tuning(self) -> None:
        """Initialise the method's parameters; the backbone's initialisers would do it their way."""
        raise NotImplementedError


class MergeableLayer(TunedLayer):
    """A layer that equals a plain layer with other weights."""

    added: ClassVar[tuple[str, ...]] = ()  # attributes that the method adds
    kinds: ClassVar[list[type[MergeableLayer]]] = []  # all classes, of whatever package

    weight: Any  # these are those of the layer's other parent
    bias: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.kinds.append(cls)

    @staticmethod
    def combine(own: Mapping[str, Any], rows: slice = EVERYTHING) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of some outputs, from the tensors of a layer by name."""
        raise NotImplementedError

    def effective_weight(self, rows: slice = EVERYTHING) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the plain layer that gives the same, for some of the outputs."""
        own = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return self.combine({**own, 'weight': self.weight, 'bias': self.bias}, rows)

    def check_mergeable(self) -> None:
        """Check that a plain layer can take the place of this one.

        Raises:
            ValueError: It cannot.
        """
        if {'forward', '_compiled_call_impl'} & vars(self).keys():
            raise ValueError(
                f'a {type(self).__name__} cannot be merged, since its forward was replaced: merge '
                'before the layer is compiled or wrapped'
            )

    @torch.no_grad()
    def merge(self) -> nn.Module:
        """Write the effective weight into the parameters, and return the plain layer with them."""
        weight, bias = self.effective_weight()
        self.weight.copy_(weight)
        if self.bias is not None and bias is not None:
            self.bias.copy_(bias)
        layer = stand_in(self, self.plain)
        for name in (*self.added, 'plain'):
            delattr(layer, name)
        return layer


class TuningDropout(nn.Dropout):
    """Dropout of a method: it acts in the second pass only, as stochastic depth does."""


def effective_weight(layer: nn.Linear, rows: slice = EVERYTHING) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of some outputs of a linear layer, with what a method does to them."""
    if isinstance(layer, MergeableLayer):
        return layer.effective_weight(rows)
    return layer.weight[rows], None if layer.bias is None else layer.bias[rows]


def effective_weight_in(
    state_dict: Mapping[str, Tensor], prefix: str, rows: slice = EVERYTHING
) -> Tensor:
    """Weight of some outputs of a layer in a checkpoint, with what a method does to it."""
    own = {n.removeprefix(prefix): t for n, t in state_dict.items() if n.startswith(prefix)}
    names = {name.split('.')[0] for name in own}
    for kind in MergeableLayer.kinds:
        if not names.isdisjoint(kind.added):
            return kind.combine(own, rows)[0]
    return own['weight'][rows]
