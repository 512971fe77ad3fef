"""Attention maps of a steered ViT: in the first pass, and in the second one with the signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor, nn

from toast_mm.models import TOASTViT


@dataclass
class AttentionMaps:
    """Maps over the patches of a batch of images, each ``(B, h, w)``.

    Attributes:
        mask: Selection mask of a patch: 1 keeps it, 0 drops it.
        first: Attention of the class token to a patch in the first pass, mean
            over the heads. The sum is below 1, since the attention of the class
            token to itself is left out.
        second: The same in the second pass.
    """

    mask: Tensor
    first: Tensor
    second: Tensor


@torch.no_grad()
def attention_maps(backbone: nn.Module, images: Tensor) -> AttentionMaps:
    """Compute the maps of the last block that runs in both passes.

    Args:
        backbone: A :class:`TOASTViT` with top-down module and class token.
        images: Preprocessed images ``(B, 3, H, W)``.

    Raises:
        ValueError: The backbone has no such maps; the message says why.

    Example:
        >>> backbone = TOASTViT(arch='deit-tiny').eval()
        >>> attention_maps(backbone, torch.rand(2, 3, 224, 224)).second.shape
        torch.Size([2, 14, 14])
    """
    if not isinstance(backbone, TOASTViT) or backbone.topdown is None:
        raise ValueError(
            'attention of two passes needs a toast_mm.TOASTViT with a top-down module '
            f'(feedback_from set); this {type(backbone).__name__} has none'
        )
    if backbone.cls_token is None:
        raise ValueError('maps need the class token: with_cls_token must be True')

    last = min(backbone.route.feedback_from - 1, backbone.out_indices[-1])
    attention = backbone.layers[last].attn
    entering: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Any, ...]) -> None:
        entering.append(args[0])

    handle = attention.register_forward_pre_hook(keep)
    try:
        with backbone.recording() as record:
            backbone(images)
    finally:
        handle.remove()

    patches = slice(backbone.num_extra_tokens, None)
    mask = backbone.topdown.selection.mask(record.z)[..., 0]
    first, second = (class_attention(attention, tokens) for tokens in entering)
    maps = (
        weights[:, patches].unflatten(1, record.first.context) for weights in (mask, first, second)
    )
    return AttentionMaps(*maps)


def class_attention(attention: MultiheadAttention, tokens: Tensor) -> Tensor:
    """Attention of the class token, mean over the heads: tokens ``(B, N, C)`` to ``(B, N)``."""
    query, key, _ = attention.qkv(tokens).chunk(3, dim=-1)
    query, key = (
        part.unflatten(-1, (attention.num_heads, attention.head_dims)).transpose(1, 2)
        for part in (query[:, :1], key)
    )
    weights = (query @ key.mT / attention.head_dims**0.5).softmax(dim=-1)  # (B, heads, 1, N)
    return weights.mean(dim=1).squeeze(1)
