"""The loss that regularises the feedback path during pre-tuning."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from .feedback import FeedbackPath


def variational_loss(
    feedback: FeedbackPath, inputs: Mapping[int, Tensor], outputs: Mapping[int, Tensor]
) -> Tensor:
    """``sum_l MSE(W1_l sg(out_l), sg(in_l))``: the feedback path reconstructs inputs from outputs.

    Paper sec. 3.2 and A.2, after AbSViT (Shi et al., `Top-Down Visual Attention
    from Analysis by Synthesis <https://arxiv.org/abs/2303.13043>`_). ``sg`` stops
    gradients, so that only the first feedback matrices W1 get any.

    Args:
        feedback: Feedback path whose W1 learn.
        inputs: Inputs of the receiving blocks (stages) in the second pass, by
            number l, before the signal was added: tokens ``(B, N, C)`` or maps
            ``(B, C, H, W)``.
        outputs: Outputs of the same blocks.

    Returns:
        The unweighted loss, a scalar.
    """
    losses = []
    for block, output in outputs.items():
        wanted = inputs[block].detach()
        losses.append(
            F.mse_loss(feedback.descend(block, output.detach(), wanted.shape[-2:]), wanted)
        )
    return sum(losses[1:], start=losses[0])
