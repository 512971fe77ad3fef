"""A record of both passes of a steered backbone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .first_pass import FirstPass


@dataclass
class PassRecord:
    """Record of one forward of a steered backbone; see ``SteeredBackbone.recording``.

    Streams are tokens ``(B, N, C)`` or maps ``(B, C, H, W)``, by number of the block that they
    left. A backbone without a top-down module has one pass, the first.

    Attributes:
        first: The first pass, with the streams that left all its blocks.
        z: Read-out of the first pass that the mask is made of, channels last.
        signals: Top-down signal of every receiving block, on the grid of the first pass.
        context: What ``format_output`` needs of the second pass besides a stream.
        second: Streams of the second pass, from the one that entered its first block.
    """

    first: FirstPass = field(init=False)
    z: Tensor = field(init=False)
    signals: dict[int, Tensor] = field(default_factory=dict)
    context: Any = None
    second: dict[int, Tensor] = field(default_factory=dict)

    @property
    def inputs(self) -> dict[int, Tensor]:
        """Streams that entered the receiving blocks, before the signal was added."""
        return {block: self.second[block - 1] for block in self.outputs}

    @property
    def outputs(self) -> dict[int, Tensor]:
        """Streams that left the receiving blocks."""
        return {block: stream for block, stream in self.second.items() if block in self.signals}
