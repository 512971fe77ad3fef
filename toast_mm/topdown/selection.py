"""Feature selection: which tokens and which channels of the output matter to the task."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FeatureSelection(nn.Module):
    """Selects task-relevant tokens, then task-relevant channels (paper sec. 3.1, step ii).

    ``m = clamp(cos(z, xi), 0, 1)`` for every token and ``z~ = (m * z) P``, with
    the task embedding xi (initialised from N(0, 1)) and the channel transform P
    (initialised to the identity, applied to row vectors).

    Args:
        dim: Number C of channels.
        token: Select tokens. If False the mask is 1 and the task embedding is
            frozen (ablation "w/o token att" of table 7).
        tune_channel_transform: Whether P is tuned. Defaults to True.
    """

    channel_transform: Any  # a parameter, or None once it is folded into the feedback path

    def __init__(self, dim: int, token: bool = True, tune_channel_transform: bool = True) -> None:
        super().__init__()
        self.token = token
        self.task_embedding = nn.Parameter(torch.randn(dim), requires_grad=token)
        self.channel_transform = nn.Parameter(torch.eye(dim), requires_grad=tune_channel_transform)

    def mask(self, z: Tensor) -> Tensor:
        """Relevance of every token, ``(..., C) -> (..., 1)``, in [0, 1]."""
        if not self.token:
            return z.new_ones(*z.shape[:-1], 1)
        return F.cosine_similarity(z, self.task_embedding, dim=-1).clamp(0, 1).unsqueeze(-1)

    def forward(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """Mask the read-out ``(..., C)`` or features of its shape, and transform channels."""
        selected = self.mask(z) * (z if features is None else features)
        return selected if self.channel_transform is None else selected @ self.channel_transform

    def drop_channel_transform(self) -> Tensor:
        """Remove and return the channel transform, to be folded into the feedback path."""
        transform = self.channel_transform
        self.channel_transform = None
        return transform.detach()
