"""A record of both passes of a steered backbone."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from .first_pass import FirstPass


@dataclass
class PassRecord:
    """Record of one forward of a steered backbone; see ``SteeredBackbone.recording``.

    Blocks are those that receive a signal, streams are tokens ``(B, N, C)`` or maps
    ``(B, C, H, W)``.

    Attributes:
        first: The first pass, with the streams that left all its blocks.
        z: Read-out of the first pass that the mask is made of, channels last.
        signals: Top-down signal of every block.
        inputs: Streams that entered the blocks of the second pass, before the
            signal was added.
        outputs: Streams that left them.
    """

    first: FirstPass = field(init=False)
    z: Tensor = field(init=False)
    signals: dict[int, Tensor] = field(default_factory=dict)
    inputs: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)
