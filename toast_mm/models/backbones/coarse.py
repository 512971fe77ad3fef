"""A first pass on smaller images, whose signals are resized for the second pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from toast_mm.topdown.feedback import Size


@dataclass(frozen=True)
class CoarseImages:
    """The images of a first pass at a fraction of their size.

    Each side is that of the image times ``scale``, rounded to the nearest multiple of ``patch``;
    the middle between two is rounded up.

    Args:
        scale: Height and width relative to the images of the second pass, above 0 and below 1.
        patch: Height and width of the patches, or strides of the first layer.
        least: Height and width below which a backbone cannot be read.
        pads: Whether the backbone pads images to whole patches. They are then padded before they
            are resized, so that the grids of both passes cover the same area.
    """

    scale: float
    patch: tuple[int, int]
    least: tuple[int, int]
    pads: bool = False

    def covered(self, size: Sequence[int]) -> tuple[int, int]:
        """Height and width of what the grid of an image of this height and width covers."""
        height, width = (
            -(-side // patch) * patch if self.pads else side
            for side, patch in zip(size, self.patch, strict=True)
        )
        return height, width

    def size(self, size: Sequence[int]) -> tuple[int, int]:
        """Height and width of the coarse image of an image of this height and width.

        Raises:
            ValueError: It is too small to be read.
        """
        height, width = self.covered(size)
        fractions = round(self.scale * height), round(self.scale * width)
        if any(side < least for side, least in zip(fractions, self.least, strict=True)):
            raise ValueError(
                f'first_pass.scale={self.scale} leaves {fractions[0]} x {fractions[1]} of '
                f'{height} x {width} pixels, but one patch (of the map that is read) has '
                f'{self.least[0]} x {self.least[1]}: use a larger scale or larger images'
            )
        rows, columns = self.patch
        return (
            int(self.scale * height / rows + 0.5) * rows,
            int(self.scale * width / columns + 0.5) * columns,
        )

    def resize(self, images: Tensor) -> Tensor:
        """Resize images ``(B, bands, H, W)``, bilinearly and without aliasing."""
        height, width = images.shape[-2:]
        size, (rows, columns) = self.size((height, width)), self.covered((height, width))
        if self.pads:
            images = F.pad(images, (0, columns - width, 0, rows - height))
        # CPUs smooth no bfloat16.
        precise = images.to(torch.promote_types(images.dtype, torch.float32))
        return F.interpolate(precise, size, mode='bilinear', antialias=True).to(images.dtype)


def coarse_images(
    first_pass: Mapping[str, Any] | None,
    patch: Sequence[int],
    least: Sequence[int] | None = None,
    built_for: Sequence[int] | None = None,
    pads: bool = False,
) -> CoarseImages | None:
    """Read the argument ``first_pass`` of a backbone.

    Args:
        first_pass: ``dict(scale=...)``, or None.
        patch: See :class:`CoarseImages`.
        least: See :class:`CoarseImages`. Defaults to None, one patch.
        built_for: Size of images that the backbone is built for. Defaults to None, any.
        pads: See :class:`CoarseImages`.

    Returns:
        None if the first pass runs on the whole images.

    Raises:
        TypeError: The scale is no number.
        ValueError: A key is unknown, or the scale is out of range or leaves less than a patch.
    """
    given = dict(first_pass or {})
    scale = given.pop('scale', 1)
    if given:
        raise ValueError(
            f'first_pass={dict(first_pass or {})}: {", ".join(given)} is unknown; there is scale'
        )
    if isinstance(scale, bool) or not isinstance(scale, (int, float)):
        raise TypeError(f'first_pass.scale={scale!r} must be a number')
    if not 0 < scale <= 1:
        raise ValueError(
            f'first_pass.scale={scale} must be above 0 and at most 1, which is the whole image'
        )
    if scale == 1:
        return None
    (rows, columns), (low, narrow) = patch, least or patch
    coarse = CoarseImages(float(scale), (rows, columns), (low, narrow), pads)
    if built_for is not None:
        coarse.size(built_for)
    return coarse


def fit_tokens(tokens: Tensor, extra: int, grid: Size, wanted: Size) -> Tensor:
    """Resize the patches among tokens ``(B, N, C)``; extra tokens stay as they are.

    Args:
        tokens: Extra tokens, then patches by row.
        extra: Number of extra tokens.
        grid: Rows and columns of the patches.
        wanted: Rows and columns after resizing.
    """
    patches = tokens[:, extra:].transpose(1, 2).unflatten(2, tuple(grid))
    patches = F.interpolate(patches, tuple(wanted), mode='bilinear')
    return torch.cat((tokens[:, :extra], patches.flatten(2).transpose(1, 2)), dim=1)


def fit_map(signal: Tensor, size: Size) -> Tensor:
    """Resize a map ``(B, C, H, W)``, if it has another size."""
    if tuple(signal.shape[-2:]) == tuple(size):
        return signal
    return F.interpolate(signal, tuple(size), mode='bilinear')
