"""A first pass in which similar tokens are merged between blocks.

Bolya et al., `Token Merging <https://arxiv.org/abs/2210.09461>`_, sec. 3. Here tokens are compared
by their features, not by the keys of an attention, and attention does not weight them by how many
they were. So no block changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class MergedTokens:
    """Tokens of which fewer and fewer are left.

    Args:
        tokens: Extra tokens, which are never merged, and patches ``(B, N, C)``.
        extra: Number of extra tokens.
        share: Share of the patches that is left in the end, above 0 and below 1.
    """

    def __init__(self, tokens: Tensor, extra: int, share: float) -> None:
        batch, number, _ = tokens.shape
        self.tokens = tokens
        self.place = torch.arange(number, device=tokens.device).expand(batch, -1)
        self._extra = extra
        self._wanted = extra + max(1, round(share * (number - extra)))
        self._sizes = tokens.new_ones(batch, number, 1)

    def merge(self, tokens: Tensor) -> None:
        """Take tokens ``(B, M, C)`` from a block, and merge at most every second patch.

        Every second patch looks for the most similar of the others. Those that are most similar to
        theirs become the mean with it, in which every original patch has the same weight.
        """
        extra, number = self._extra, tokens.shape[1]
        features = F.normalize(tokens.detach()[:, extra:].float(), dim=-1)
        ours, others = features[:, ::2], features[:, 1::2]
        fewer = min(number - self._wanted, ours.shape[1])
        self.tokens = tokens
        if fewer <= 0 or others.shape[1] == 0:
            return
        similarity, match = (ours @ others.transpose(1, 2)).max(-1)
        order = similarity.topk(fewer, dim=-1).indices
        gone, into = extra + 2 * order, extra + 1 + 2 * match.gather(1, order)
        stays = torch.ones_like(tokens[..., 0], dtype=torch.long).scatter(1, gone, 0)
        target = stays.cumsum(1) - 1
        target = target.scatter(1, gone, target.gather(1, into))
        # A product with 0 and 1, since sums by index are not deterministic on a GPU.
        members = F.one_hot(target, number - fewer).transpose(1, 2).to(tokens.dtype)
        sizes = members @ self._sizes
        self.tokens = members @ (tokens * self._sizes) / sizes
        self.place, self._sizes = target.gather(1, self.place), sizes


def spread(tokens: Tensor, place: Tensor) -> Tensor:
    """Give every token ``(B, N)`` what the token has that it was merged into, ``(B, M, C)``."""
    return tokens.gather(1, place[..., None].expand(-1, -1, tokens.shape[-1]))


def merged_share(first_pass: Mapping[str, Any] | None, blocks: int) -> float | None:
    """Read the key ``merge`` of the argument ``first_pass`` of a backbone.

    Args:
        first_pass: ``dict(merge=...)``, or another one.
        blocks: Number of blocks of the first pass.

    Returns:
        None if tokens are not merged.

    Raises:
        TypeError: The share is no number.
        ValueError: It is out of range, or there is only one block.
    """
    share = (first_pass or {}).get('merge', 1)
    if isinstance(share, bool) or not isinstance(share, (int, float)):
        raise TypeError(f'first_pass.merge={share!r} must be a number')
    if not 0 < share <= 1:
        raise ValueError(
            f'first_pass.merge={share} must be above 0 and at most 1, which merges nothing'
        )
    if share == 1:
        return None
    if blocks < 2:
        raise ValueError(
            f'first_pass.merge={share} merges tokens between blocks, but the first pass has one '
            'block: use a later feedback_from, or first_pass=dict(scale=0.5)'
        )
    return float(share)
