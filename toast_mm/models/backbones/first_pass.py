"""The result of a first pass, and the images that it was computed from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from toast_mm.topdown.feedback import Size


@dataclass
class FirstPass:
    """The parts of the first pass that the second needs. Without feedback: the outputs.

    Nothing in it depends on what is tuned, so it can be computed once and used again, for the same
    images: by ``SteeredBackbone.using``.

    Attributes:
        streams: Streams, tokens ``(B, N, C)`` or maps ``(B, C, H, W)``, by number of the block that
            they left; -1 is the embedded image, which is embedded again where it is missing.
        sizes: Height and width of what the signal of each block is added to.
        context: What ``format_output`` needs besides a stream.
        images: The images ``(B, 3, H, W)`` that it was computed from, as the backbone takes them.
        scale: Size of the images that it ran on, relative to these.
    """

    streams: dict[int, Tensor] = field(default_factory=dict)
    sizes: dict[int, Size] = field(default_factory=dict)
    context: Any = None
    images: Tensor | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        self._version = _version(self.images)

    def belongs_to(self, images: Tensor) -> bool:
        """Whether these are the same images: the same unchanged tensor, or an equal one."""
        own = self.images
        if own is None or not (torch.compiler.is_compiling() or _version(own) == self._version):
            return False
        alike = (own.shape, own.dtype, own.device) == (images.shape, images.dtype, images.device)
        return images is own or (alike and torch.equal(images, own))


def _version(tensor: Tensor | None) -> int:
    """How often a tensor was written to in place; inference mode does not count."""
    return 0 if tensor is None or tensor.is_inference() else tensor._version
