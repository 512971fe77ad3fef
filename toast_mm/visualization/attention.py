"""Where a steered backbone looks: in the first pass, and in the second one with the signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class AttentionMaps:
    """Maps over a batch of images, each ``(B, h, w)``.

    Attributes:
        mask: Selection mask of a patch or a pixel of the map: 1 keeps it, 0 drops it.
        first: What a block of the first pass attends to, by patch. It is the attention of the class
            token, or the mean over all patches without one, and the mean over the heads; the sum is
            below 1, since class and register tokens are left out. For a network without attention
            it is the energy of the features: the norm of the block's output at every pixel.
        second: The same in the second pass.
        what: What the two show: ``'attention'`` or ``'energy'``.
    """

    mask: Tensor
    first: Tensor
    second: Tensor
    what: str


@torch.no_grad()
def attention_maps(backbone: Any, images: Tensor) -> AttentionMaps:
    """Compute the maps of the last block that runs in both passes.

    Args:
        backbone: A backbone with a top-down module, whose blocks have attention or return maps.
        images: Preprocessed images ``(B, 3, H, W)``.

    Raises:
        ValueError: The backbone has no such maps; the message says why.

    Example:
        >>> backbone = TOASTViT(arch='deit-tiny').eval()
        >>> attention_maps(backbone, torch.rand(2, 3, 224, 224)).second.shape
        torch.Size([2, 14, 14])
    """
    if getattr(backbone, 'topdown', None) is None:
        raise ValueError(
            'attention of two passes needs a backbone with a top-down module (feedback_from set), '
            f'such as toast_mm.TOASTViT or toast_mm.TOASTTimm; this {type(backbone).__name__} has '
            'none'
        )
    block = min(backbone.route.feedback_from - 1, backbone.out_indices[-1])
    with backbone.recording() as record:
        backbone(images)
    first, context = record.first, record.first.context
    attention = backbone.attention(block, first.streams[block - 1], context)
    if attention is not None:
        what, second = 'attention', backbone.attention(block, record.inputs[block], context)
        maps = attention.mean(1), second.mean(1)
    else:
        what = 'energy'
        if first.streams[block].ndim != 4:
            raise ValueError(
                f'this {type(backbone).__name__} does not say its attention (by a method '
                'attention), and its blocks return no maps (B, C, H, W): there is nothing to draw'
            )
        maps = first.streams[block].norm(dim=1), record.outputs[block].norm(dim=1)
    mask = backbone.topdown.selection.mask(record.z)[..., 0]
    if mask.ndim == 2:  # of tokens, patches last
        grid = maps[0].shape[1:]
        mask = mask[:, -grid.numel() :].unflatten(1, grid)
    return AttentionMaps(mask, *maps, what)
