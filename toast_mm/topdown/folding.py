"""Folding for inference: the linear parts of a top-down module become few matrix products."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .feedback import FeedbackPath, Size


class FoldedFeedback(nn.Module):
    """Feedback path of a transformer that goes straight to the values of every block.

    The matrix ``G_l = P W1_top^T ... W1_l^T W2_l^T W_V,l^T`` replaces channel transform, feedback
    path and value projection. The values are ``V_l = W_V x + (m * z) G_l``, plus the bias.

    Args:
        values: Weight ``G_l^T`` ``(C_V, C)`` by number of the receiving block.
    """

    def __init__(self, values: Mapping[int, Tensor]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        for block, weight in values.items():
            outputs, inputs = weight.shape
            linear = nn.Linear(inputs, outputs, bias=False, device='meta')
            linear.weight = nn.Parameter(weight)
            self.layers[str(block)] = linear

    def forward(
        self, selected: Tensor, sizes: Mapping[int, Size] | None = None
    ) -> dict[int, Tensor]:
        """Masked tokens ``(B, N, C)`` to the term that is added to the values of every block."""
        return {int(block): linear(selected) for block, linear in self.layers.items()}


@torch.no_grad()
def fold_linear(
    feedback: FeedbackPath, transform: Tensor, values: Mapping[int, Tensor]
) -> FoldedFeedback:
    """Fold channel transform P, feedback path and value projections into one matrix per block.

    Args:
        feedback: A linear path, with or without low-rank updates.
        transform: P ``(C, C)``.
        values: Value projection ``W_V`` ``(C, C)`` of every receiving block.
    """
    path = feedback.requires_grad_(False).double()
    signals = path(transform.double())  # the path is linear: it maps P row by row
    return FoldedFeedback(
        {
            block: (values[block].double() @ signal.T).to(transform.dtype).contiguous()
            for block, signal in sorted(signals.items())
        }
    )


@torch.no_grad()
def fold_deconv(feedback: FeedbackPath, transform: Tensor) -> FeedbackPath:
    """Fold P and the shallowest 1 x 1 convolution into deconvolutions, in place.

    P goes into the deepest one, the 1 x 1 convolution into the one before it.
    """
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
