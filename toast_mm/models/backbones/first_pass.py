"""What the first pass of a backbone leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from toast_mm.topdown.feedback import Size


@dataclass
class FirstPass:
    """All that the second pass needs of the first; of a backbone without feedback, its outputs.

    Nothing in it depends on what is tuned, so it can be computed once and used again: by
    ``SteeredBackbone.provide``.

    Attributes:
        streams: Streams, tokens ``(B, N, C)`` or maps ``(B, C, H, W)``, by number of the block that
            they left; -1 is the embedded image, which is embedded again where it is missing.
        sizes: Height and width of what the signal of each block is added to.
        context: What ``format_output`` needs besides a stream.
    """

    streams: dict[int, Tensor] = field(default_factory=dict)
    sizes: dict[int, Size] = field(default_factory=dict)
    context: Any = None
