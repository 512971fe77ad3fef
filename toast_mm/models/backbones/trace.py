"""What the two passes of a steered backbone computed, for those who ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class Trace:
    """Record of one forward of a steered backbone; see ``SteeredBackbone.tracing``.

    Blocks are those that receive a signal, streams are tokens ``(B, N, C)`` or maps
    ``(B, C, H, W)``.

    Attributes:
        context: What ``format_output`` needs besides a stream.
        first_streams: Streams that left the blocks of the first pass.
        z: Read-out of the first pass that the mask is made of, channels last.
        signals: Top-down signal of every block.
        inputs: Streams that entered the blocks of the second pass, before the
            signal was added.
        outputs: Streams that left them.
    """

    context: Any = None
    first_streams: dict[int, Tensor] = field(default_factory=dict)
    z: Tensor = field(init=False)
    signals: dict[int, Tensor] = field(default_factory=dict)
    inputs: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)
