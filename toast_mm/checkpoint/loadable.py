"""What checkpoints have to know of a backbone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from toast_mm.topdown import FeedbackRoute, TopDown

if TYPE_CHECKING:
    from typing_extensions import Self


class LoadableBackbone:
    """Base class of a backbone that knows which part each of its weights belongs to.

    ``nn.Module`` is the other base class.

    Attributes:
        modules_to_save: New modules beside the base, which no pre-trained checkpoint has.
        resized_parameters: Parameters that depend on the size of the images.
        stem_weight: Name of the weight ``(C, bands, h, w)`` of the layer that reads the images;
            None for a backbone that reads them in another way.
        in_channels: Number of bands of the images; 3 if there is no ``stem_weight``.
        topdown: The top-down module, or None for the plain backbone.
        route: Route of its signals. It is not set without a top-down module.
        steering_signature: Arguments that change how signals enter, and that weights do not show.
        output_signature: Arguments that change the outputs, and that weights do not show.
        method: Description of the transfer method.
        frozen: Whether the backbone is frozen, its statistics too.
        added: Names of the weights that a method added.
        pretrained: The entries of ``init_cfg`` that name pre-trained weights.
        pretuned: File of the pre-tuned top-down module.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """What ``nn.Module`` has."""

    modules_to_save: tuple[str, ...] = ()
    resized_parameters: tuple[str, ...] = ()
    stem_weight: str | None = None
    in_channels: int = 3

    topdown: TopDown | None
    route: FeedbackRoute
    steering_signature: dict[str, Any]
    output_signature: dict[str, Any]
    method: str
    frozen: bool
    added: frozenset[str]
    pretrained: list[dict]
    pretuned: str | None

    @abstractmethod
    def block_modules(self, block: int) -> list[nn.Module]:
        """Modules that only this block and later ones use; the block itself comes first."""

    @abstractmethod
    def fold(self) -> Self:
        """Fold the top-down module for inference."""

    @property
    def folded(self) -> bool:
        """Whether the top-down module is folded for inference."""
        return self.topdown is not None and self.topdown.selection.channel_transform is None

    def part_of(self, name: str) -> str:
        """Tell by its name which part of the backbone a weight or a module belongs to.

        Returns:
            ``'topdown'``, ``'modules_to_save'``, ``'added'`` (by a method), or ``'base'`` (a
            pre-trained checkpoint has it).
        """
        first = name.split('.')[0]
        if first == 'topdown':
            return first
        if first in self.modules_to_save:
            return 'modules_to_save'
        return 'added' if name in self.added else 'base'

    def is_base(self, name: str) -> bool:
        """Whether a weight of this name belongs to the pre-trained backbone."""
        return self.part_of(name) == 'base'

    def rename_base(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give the weights of a pre-trained checkpoint the names of this backbone."""
        return dict(weights)

    def fit_stem(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Fit the stem of a pre-trained checkpoint for R, G and B to the bands of this backbone."""
        return dict(weights)

    def block_names(self) -> list[str]:
        """Names of the modules of the first block, which differ between kinds of backbones."""
        modules = self.block_modules(0)
        return [name for name, module in self.named_modules() if module in modules]
