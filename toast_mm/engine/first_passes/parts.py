"""Parts of the first passes of whole images, for augmented images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from toast_mm.models.backbones.first_pass import FirstPass
from toast_mm.models.backbones.steering import SteeredBackbone

from .augmentation import View


class PartsOfFirstPass:
    """Takes from the first passes of whole images what augmented images show.

    The maps, or the patches among the tokens, are resampled bilinearly; extra tokens stay those of
    the whole image. Beyond its border, the values at the border are used.

    Args:
        backbone: A backbone whose first pass is coarse.
        size: Height and width of the whole images.
    """

    def __init__(self, backbone: SteeredBackbone, size: tuple[int, int]) -> None:
        self.backbone = backbone
        self.size = size
        self._examples: dict[tuple[int, ...], FirstPass] = {}

    def __call__(self, whole: FirstPass, views: Sequence[View], images: Tensor) -> FirstPass:
        """The first pass of a batch.

        Args:
            whole: First pass of the whole images.
            views: Part of each; see :func:`fit_view`.
            images: The augmented images ``(B, bands, H, W)``, as the backbone takes them.
        """
        example = self._example(images)
        grids = self._grids(torch.tensor(views, device=images.device), images.shape[-2:])
        streams = {}
        for block, stream in whole.streams.items():
            if self.backbone.tokens is None:
                streams[block] = _sample(stream, grids, example.streams[block].shape[-2:])
                continue
            extra = self.backbone.tokens.extra
            patches = stream[:, extra:].transpose(1, 2).unflatten(2, whole.context)
            patches = _sample(patches, grids, example.context)
            streams[block] = torch.cat(
                (stream[:, :extra], patches.flatten(2).transpose(1, 2)), dim=1
            )
        return replace(example, streams=streams, images=images)

    def _example(self, images: Tensor) -> FirstPass:
        """First pass of one image of this size, for its sizes."""
        key = tuple(images.shape[1:])
        if key not in self._examples:
            with torch.no_grad():
                self._examples[key] = self.backbone.run_first_pass(images[:1])
        return self._examples[key]

    def _grids(self, views: Tensor, size: Sequence[int]) -> Tensor:
        """Matrices ``(B, 2, 3)`` of ``affine_grid``, between what the maps of both cover."""
        coarse = self.backbone.coarse
        assert coarse is not None
        height, width = coarse.covered(size)
        pixels = views.new_tensor(
            [[width / 2, 0, width / 2], [0, height / 2, height / 2], [0, 0, 1]]
        )
        rows, columns = (
            own / covered for own, covered in zip(self.size, coarse.covered(self.size), strict=True)
        )
        scale = views.new_tensor([columns, rows])[:, None]
        views = views @ pixels * scale
        views[..., 2:] += scale - 1
        return views


def _sample(maps: Tensor, matrices: Tensor, size: Sequence[int]) -> Tensor:
    grid = F.affine_grid(matrices, [len(maps), 1, *size], align_corners=False)
    return F.grid_sample(maps, grid, padding_mode='border', align_corners=False)
