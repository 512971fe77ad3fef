"""Feedback paths: from the selected features to one signal per receiving block."""

from collections.abc import Iterable

from torch import Tensor, nn

# What a matrix of standard deviation 0.02 does to the norm of a random vector of 768 channels.
PUBLISHED_GAIN = 0.02 * 768**0.5


class LinearFeedbackLayer(nn.Module):
    """One layer of the linear feedback path: ``h_l = W1_l h_{l+1}``, ``td_l = W2_l h_l``.

    Args:
        dim: Number C of channels.
        gain: Standard deviation of the weights times ``sqrt(C)``.
    """

    def __init__(self, dim: int, gain: float = PUBLISHED_GAIN) -> None:
        super().__init__()
        self.descend = nn.Linear(dim, dim, bias=False)
        self.emit = nn.Linear(dim, dim, bias=False)
        for linear in (self.descend, self.emit):
            nn.init.trunc_normal_(linear.weight, std=gain / dim**0.5)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden state of the layer above to this layer's hidden state and signal."""
        hidden = self.descend(hidden)
        return hidden, self.emit(hidden)


class LinearFeedback(nn.Module):
    """Feedback path of a transformer (paper sec. 3.1, step iii).

    A stack of linear layers without bias, activation or norm, from the deepest
    receiving block to the shallowest. The hidden state, not the signal, goes on
    to the next layer.

    Args:
        dim: Number C of channels.
        receivers: Numbers of the receiving blocks, counted from the input side.
        gain: Factor by which a matrix scales the norm of a random vector at the
            start. The signal passes up to ``len(receivers) + 1`` matrices, so
            with the published standard deviation of 0.02 whatever the width,
            narrow networks would get almost none. Defaults to the gain of
            0.02 at 768 channels.
    """

    def __init__(self, dim: int, receivers: Iterable[int], gain: float = PUBLISHED_GAIN) -> None:
        super().__init__()
        # Keyed by the number of the block, so that weights of another route never fit by accident.
        self.layers = nn.ModuleDict(
            {str(block): LinearFeedbackLayer(dim, gain) for block in receivers}
        )

    def forward(self, selected: Tensor) -> dict[int, Tensor]:
        """Selected features ``(B, N, C)`` to ``{block: signal (B, N, C)}``."""
        signals = {}
        hidden = selected
        for block in sorted(map(int, self.layers), reverse=True):
            hidden, signals[block] = self.layers[str(block)](hidden)
        return signals

    def reconstruct(self, block: int, output: Tensor) -> Tensor:
        """``W1_l out_l``, what the output ``(B, N, C)`` of a block says of its input."""
        return self.layers.get_submodule(f'{block}.descend')(output)
