"""Folding for inference: the linear parts of a trained top-down module as few products as exact."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .feedback import FeedbackPath, Size


class FoldedFeedback(nn.Module):
    """Feedback path of a transformer that goes straight to the values of every block.

    ``G_l = P W1_top^T ... W1_l^T W2_l^T W_V,l^T`` in place of channel transform, feedback path and
    value projection, so that ``V_l = W_V x + (m * z) G_l`` and the biases.

    Args:
        values: Weight ``G_l^T`` ``(C, C)`` by number of the receiving block.
    """

    def __init__(self, values: Mapping[int, Tensor]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        for block, weight in values.items():
            linear = nn.Linear(len(weight), len(weight), bias=False, device='meta')
            linear.weight = nn.Parameter(weight)
            self.layers[str(block)] = linear

    def forward(
        self, selected: Tensor, sizes: Mapping[int, Size] | None = None
    ) -> dict[int, Tensor]:
        """Masked tokens ``(B, N, C)`` to what is added to the values of every block."""
        return {int(block): linear(selected) for block, linear in self.layers.items()}


@torch.no_grad()
def fold_linear(
    feedback: FeedbackPath, transform: Tensor, values: Mapping[int, Tensor]
) -> FoldedFeedback:
    """Fold channel transform P, feedback path and value projections into one matrix per block.

    Args:
        feedback: A linear path, without low-rank updates or with.
        transform: P ``(C, C)``.
        values: Value projection ``W_V`` ``(C, C)`` of every receiving block.
    """
    path = feedback.requires_grad_(False).double()
    signals = path(transform.double())  # the path is linear: rows of P are what it makes of P
    return FoldedFeedback(
        {
            block: (values[block].double() @ signal.T).to(transform.dtype).contiguous()
            for block, signal in sorted(signals.items())
        }
    )


@torch.no_grad()
def fold_deconv(feedback: FeedbackPath, transform: Tensor) -> FeedbackPath:
    """Fold P into the deepest deconvolution, and the shallowest 1 x 1 into its own; in place."""
    feedback.merge()
    blocks = sorted(map(int, feedback.layers))
    deepest, shallowest = feedback.layer(blocks[-1]), feedback.layer(blocks[0])
    weight = deepest.descend.get_parameter('weight')
    weight.copy_(torch.einsum('ij,jo...->io...', transform.double(), weight.double()))
    emit = shallowest.emit.get_parameter('weight').flatten(1).double()
    weight = shallowest.descend.get_parameter('weight')
    weight.copy_(torch.einsum('ij...,oj->io...', weight.double(), emit))
    shallowest.emit = nn.Identity()
    return feedback
