"""From the attention of a block to a map over the image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def map_of_attention(
    weights: Tensor, extra: int, class_token: bool, grid: tuple[int, int]
) -> Tensor:
    """Attention to the patches: that of the class token, or else the mean over all patches.

    Args:
        weights: Attention ``(B, heads, N, N)`` of every token (rows) to every token.
        extra: Number of tokens before the patches: the class token, registers, prompts.
        class_token: Whether the first of them is a class token.
        grid: Rows and columns of patches.

    Returns:
        ``(B, heads, h, w)``. The sum is at most 1, since the other tokens are left out.
    """
    asked = weights[:, :, 0] if class_token else weights[:, :, extra:].mean(2)
    return asked[..., extra:].unflatten(-1, grid)


@contextmanager
def kept_weights(attn: Any) -> Iterator[list[Tensor]]:
    """Keep the attention ``(B, heads, N, N)`` of each call of an attention of timm.

    Inside the context it runs without the fused kernel, which does not show it.
    """
    kept: list[Tensor] = []
    handle = attn.attn_drop.register_forward_pre_hook(lambda drop, args: kept.append(args[0]))
    fused, attn.fused_attn = attn.fused_attn, False
    try:
        yield kept
    finally:
        attn.fused_attn = fused
        handle.remove()


@contextmanager
def kept_weights_of_kernel(attn: Any) -> Iterator[list[Tensor]]:
    """Keep the attention ``(B, heads, N, N)`` of each call of an attention of mmpretrain.

    It computes its kernel twice inside the context. With the identity for values, the result is the
    attention itself.
    """
    kept: list[Tensor] = []
    kernel = attn.scaled_dot_product_attention

    def keep(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        identity = torch.eye(key.shape[-2], dtype=value.dtype, device=value.device)
        kept.append(kernel(query, key, identity.expand(*key.shape[:2], -1, -1), **options))
        return kernel(query, key, value, **options)

    attn.scaled_dot_product_attention = keep
    try:
        yield kept
    finally:
        attn.scaled_dot_product_attention = kernel
