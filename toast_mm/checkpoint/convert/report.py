"""What a conversion did, and whether it is whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from toast_mm.checkpoint import CheckpointError

Rules = Sequence[tuple[str, str]]

_NO_PLACE = (
    "the model computes something that mmpretrain's {} does not: there is no place for its weights"
)


@dataclass
class Converted:
    """Weights under new names, and where they come from.

    Attributes:
        kind: What the source was recognised as.
        preprocessing: Mean and standard deviation of the images that the weights
            expect, in [0, 255], and why.
        weights: Tensors by new name.
        sources: Names in the source by new name; several were joined.
        resized: What was changed besides the name, by new name.
        unused: Names in the source that nothing was made of.
        missing: Names that the backbone has and the source lacks.
        settings: Arguments of the backbone that the weights fit.
        caveat: What the file cannot tell, and the user has to know.
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
        """Note that a tensor was made of some sources."""
        self.weights[name] = tensor.contiguous()
        self.sources[name] = list(sources)
        if note:
            self.resized[name] = note

    def compare(self, backbone: nn.Module, prefix: str = 'backbone.') -> None:
        """Note what a backbone has that is missing here.

        Raises:
            CheckpointError: A tensor has another shape than the backbone's, or no place in it.
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
                    f'{name} {tuple(tensor.shape)}'
                )

    def refuse_unknown(self, beside: str, backbone: str) -> None:
        """Refuse weights of the source that nothing was made of, but for those of a head and such.

        A model that has more weights computes something else.

        Args:
            beside: Pattern of whole names: what stands beside a backbone or behind it.
            backbone: Name of the backbone in which there is no place for others.

        Raises:
            CheckpointError: Names them.
        """
        if unknown := [name for name in self.unused if not re.fullmatch(beside, name)]:
            raise CheckpointError(f'{_NO_PLACE.format(backbone)}: {", ".join(unknown)}')

    def drop_head(self) -> None:
        """Leave out a head that comes behind something that has no place here."""
        for name in [name for name in self.weights if name.startswith('head.')]:
            del self.weights[name]
            self.unused += self.sources.pop(name)

    def check_whole(self) -> None:
        """Refuse a conversion that leaves parts of the backbone without weights.

        Raises:
            CheckpointError: Names them.
        """
        if self.missing:
            raise CheckpointError(f'the backbone lacks weights: {", ".join(self.missing)}')

    def show(self, console: Console) -> None:
        """Print mapped, resized, unused and missing names, and what to write in a config."""
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
    """Add what rules have a new name for; what none matches stays unused.

    Args:
        state_dict: Tensors by name.
        rules: Patterns of whole names, and their replacements.
        converted: Takes the result.
        change: Makes the tensor of a new name from that of the old.
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
    """Drop the beginnings that wrappers add to names."""
    pattern = re.compile(rf'^(?:{"|".join(map(re.escape, prefixes))})')
    return {pattern.sub('', name): tensor for name, tensor in state_dict.items()}
