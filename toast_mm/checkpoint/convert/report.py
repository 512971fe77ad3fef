"""Report of a conversion, with checks that it is complete."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from toast_mm.checkpoint import CheckpointError

Rules = Sequence[tuple[str, str]]

_NO_PLACE = "the model is not mmpretrain's {}, which has no place for its weights"


@dataclass
class Converted:
    """Weights under new names, with the names that they come from.

    Attributes:
        kind: Kind of the source, such as ``'ViT of timm'``.
        preprocessing: Mean and standard deviation of the images that the weights
            expect, in [0, 255], and the reason.
        weights: Tensors by new name.
        sources: Names in the source by new name; several if they were joined.
        resized: Changes other than renaming, by new name.
        unused: Names in the source that were not converted.
        missing: Names that the backbone has and the source lacks.
        settings: Arguments of the backbone that the weights fit.
        caveat: What the user has to know because the file does not show it.
    """

    kind: str
    preprocessing: dict = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    sources: dict[str, list[str]] = field(default_factory=dict)
    resized: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    settings: dict = field(default_factory=dict)
    caveat: str = ''

    def add(self, name: str, tensor: Tensor, *sources: str, note: str = '') -> None:
        """Add a tensor and the names that it comes from."""
        self.weights[name] = tensor.contiguous()
        self.sources[name] = list(sources)
        if note:
            self.resized[name] = note

    def compare(self, backbone: nn.Module, prefix: str = 'backbone.') -> None:
        """Note which parameters of a backbone are missing here.

        Raises:
            CheckpointError: A tensor has another shape than in the backbone, or is not in it.
        """
        expected = {f'{prefix}{name}': t for name, t in backbone.state_dict().items()}
        self.missing = [name for name in expected if name not in self.weights]
        surplus = [n for n in self.weights if n.startswith(prefix) and n not in expected]
        if surplus:
            names = ', '.join(' + '.join(self.sources[name]) for name in surplus)
            raise CheckpointError(f'{_NO_PLACE.format(type(backbone).__name__)}: {names}')
        for name, tensor in expected.items():
            if name in self.weights and self.weights[name].shape != tensor.shape:
                raise CheckpointError(
                    f'{" + ".join(self.sources[name])} is {tuple(self.weights[name].shape)}, but '
                    f'{name} must be {tuple(tensor.shape)}'
                )

    def refuse_unknown(self, beside: str, backbone: str) -> None:
        """Check that all weights were converted, except those of heads and the like.

        A model with other weights computes something else.

        Args:
            beside: Pattern of whole names of weights that do not belong to a backbone.
            backbone: Name of the backbone, for the error.

        Raises:
            CheckpointError: Other weights were not converted; the message names them.
        """
        if unknown := [name for name in self.unused if not re.fullmatch(beside, name)]:
            raise CheckpointError(f'{_NO_PLACE.format(backbone)}: {", ".join(unknown)}')

    def drop_head(self) -> None:
        """Drop the head, if layers before it cannot be converted."""
        for name in [name for name in self.weights if name.startswith('head.')]:
            del self.weights[name]
            self.unused += self.sources.pop(name)

    def check_whole(self) -> None:
        """Check that the whole backbone has weights.

        Raises:
            CheckpointError: Weights are missing; the message names them.
        """
        if self.missing:
            raise CheckpointError(f'the backbone lacks weights: {", ".join(self.missing)}')

    def show(self, console: Console) -> None:
        """Print mapped, resized, unused and missing names, and settings for a config."""
        table = Table('', 'in the source', 'here', 'shape')
        for name, tensor in self.weights.items():
            state = f'resized: {self.resized[name]}' if name in self.resized else 'mapped'
            table.add_row(state, ' + '.join(self.sources[name]), name, str(tuple(tensor.shape)))
        for name in self.unused:
            table.add_row('unused', name, '', '')
        for name in self.missing:
            table.add_row('missing', '', name, '')
        console.print(table)
        counts = (
            f'{len(self.weights)} mapped, {len(self.resized)} of them resized, '
            f'{len(self.unused)} unused, {len(self.missing)} missing'
        )
        console.print(f'{self.kind}: {counts}', soft_wrap=True)
        settings = ', '.join(f'{name}={value!r}' for name, value in self.settings.items())
        console.print(f'backbone = dict({settings})', soft_wrap=True)
        norm = self.preprocessing
        console.print(
            f'preprocessing = dict(mean={norm["mean"]}, std={norm["std"]})  # {norm["why"]}',
            soft_wrap=True,
        )
        if self.caveat:
            console.print(self.caveat, soft_wrap=True)


def rename(
    state_dict: Mapping[str, Tensor],
    rules: Rules,
    converted: Converted,
    change: Callable[[str, Tensor], Tensor] = lambda name, tensor: tensor,
) -> None:
    """Rename tensors by rules and add them; tensors that no rule matches stay unused.

    Args:
        state_dict: Tensors by name.
        rules: Patterns of whole names, and their replacements.
        converted: The result is added here.
        change: Computes the new tensor from the new name and the old tensor.
    """
    for name, tensor in state_dict.items():
        for pattern, replacement in rules:
            if match := re.fullmatch(pattern, name):
                new = match.expand(replacement)
                changed = change(new, tensor)
                note = '' if changed.shape == tensor.shape else f'from {tuple(tensor.shape)}'
                converted.add(new, changed, name, note=note)
                break
        else:
            converted.unused.append(name)


def without_prefix(state_dict: Mapping[str, Tensor], prefixes: Iterable[str]) -> dict[str, Tensor]:
    """Remove prefixes that wrappers add to names."""
    pattern = re.compile(rf'^(?:{"|".join(map(re.escape, prefixes))})')
    return {pattern.sub('', name): tensor for name, tensor in state_dict.items()}
