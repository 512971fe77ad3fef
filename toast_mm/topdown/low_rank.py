"""Low-rank updates of frozen weights, which TOAST-Lite tunes in the feedback path."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn
from torch.func import functional_call


def check_low_rank(rank: int, alpha: float) -> None:
    """Check rank and alpha of a low-rank update, which is scaled by ``alpha / rank``.

    Raises:
        ValueError: The rank is below 1, or alpha not above 0.
    """
    if not isinstance(rank, int) or rank < 1:
        raise ValueError(f'rank={rank!r} of a low-rank update must be an integer of at least 1')
    if not isinstance(alpha, (int, float)) or alpha <= 0:
        raise ValueError(f'alpha={alpha!r} of a low-rank update must be a number above 0')


def reset_low_rank(down: Tensor, up: Tensor) -> None:
    """Initialise the factors of a low-rank update, which is zero at the start."""
    nn.init.kaiming_uniform_(down, a=sqrt(5))
    nn.init.zeros_(up)


class LowRankUpdate(nn.Module):
    """Update of one weight, ``alpha / rank * up @ down``, zero at the start (LoRA).

    Hu et al., `LoRA <https://arxiv.org/abs/2106.09685>`_. The weight itself does not
    change: an update is merged only on request, so never twice.

    Args:
        module: The layer whose weight is updated: a linear layer, a convolution
            or a transposed convolution.
        rank: Inner width r of the update.
        alpha: The update is scaled by ``alpha / rank``.

    Raises:
        ValueError: The rank is below 1, or alpha not above 0.
    """

    scale: Tensor

    def __init__(self, module: nn.Module, rank: int = 4, alpha: float = 1.0) -> None:
        super().__init__()
        check_low_rank(rank, alpha)
        # A buffer, so that checkpoints hold it: with another scale the update is another one.
        self.register_buffer('scale', torch.tensor(alpha / rank))
        self.transposed = isinstance(module, nn.ConvTranspose2d)
        matrix = self._as_matrix(module.get_parameter('weight'))
        self.down = nn.Parameter(torch.empty(rank, matrix.shape[1]))
        self.up = nn.Parameter(torch.empty(matrix.shape[0], rank))
        reset_low_rank(self.down, self.up)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with its update."""
        delta = (self.scale * (self.up @ self.down)).to(weight.dtype)
        if self.transposed:
            delta = delta.T
        return weight + delta.reshape(weight.shape)

    def run(self, module: nn.Module, x: Tensor) -> Tensor:
        """Run the layer on an input with the updated weight."""
        return functional_call(module, {'weight': self(module.get_parameter('weight'))}, (x,))

    @torch.no_grad()
    def merge_into(self, module: nn.Module) -> None:
        """Write the updated weight into the layer."""
        weight = module.get_parameter('weight')
        weight.copy_(self(weight))

    def _as_matrix(self, weight: Tensor) -> Tensor:
        """Reshape to outputs x inputs; a transposed convolution has its inputs first."""
        matrix = weight.detach().flatten(1)
        return matrix.T if self.transposed else matrix
