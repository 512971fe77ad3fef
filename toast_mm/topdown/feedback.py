"""Feedback paths: from the selected features to one signal per receiving block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .low_rank import LowRankUpdate

# A matrix with standard deviation 0.02 scales the norm of a random 768-channel vector by this.
PUBLISHED_GAIN = 0.02 * 768**0.5

CONVNEXT_B_STEM = 128  # channels; they double from stage to stage

Size = Sequence[int]


class FeedbackLayer(nn.Module):
    """One layer of a feedback path: ``h_l = W1_l h_{l+1}``, ``td_l = W2_l h_l``.

    Args:
        descend: W1, from the hidden state of the layer above to this one's.
        emit: W2, from the hidden state to the signal.
    """

    descend: nn.Linear | nn.ConvTranspose2d
    emit: nn.Linear | nn.Conv2d | nn.Identity

    def __init__(
        self, descend: nn.Linear | nn.ConvTranspose2d, emit: nn.Linear | nn.Conv2d
    ) -> None:
        super().__init__()
        self.descend = descend
        self.emit = emit
        self.updates = nn.ModuleDict()  # of W1 and W2; empty without TOAST-Lite

    def run(self, part: str, x: Tensor) -> Tensor:
        """Apply ``'descend'`` or ``'emit'``, with the update of its weight."""
        module = self.get_submodule(part)
        return cast(LowRankUpdate, self.updates[part]).run(module, x) if self.updates else module(x)

    def merge(self) -> None:
        """Write the updates into the weights and drop them."""
        for part, update in self.updates.items():
            cast(LowRankUpdate, update).merge_into(self.get_submodule(part))
        self.updates.clear()


class FeedbackPath(nn.Module):
    """Layers from the deepest receiving block to the shallowest (paper sec. 3.1, step iii).

    The hidden state, not the signal, goes on to the next layer.

    Args:
        layers: Layers by the number of their receiving block, counted from the
            input side.
    """

    def __init__(self, layers: Mapping[int, FeedbackLayer]) -> None:
        super().__init__()
        # Keyed by the number of the block, so that weights of another route never fit by accident.
        self.layers = nn.ModuleDict({str(block): layer for block, layer in layers.items()})

    def forward(
        self, selected: Tensor, sizes: Mapping[int, Size] | None = None
    ) -> dict[int, Tensor]:
        """Selected features to one signal per receiving block.

        Args:
            selected: Features, channels last: ``(B, N, C)`` or ``(B, H, W, C)``.
            sizes: Height and width of the map that each signal is added to; not
                needed for tokens.
        """
        signals = {}
        hidden = self.enter(selected)
        for block in sorted([int(block) for block in self.layers], reverse=True):
            hidden = self.descend(block, hidden, None if sizes is None else sizes[block])
            signals[block] = self.layer(block).run('emit', hidden)
        return signals

    def enter(self, selected: Tensor) -> Tensor:
        """Bring the selected features into the layout of the path."""
        return selected

    def descend(self, block: int, hidden: Tensor, size: Size | None = None) -> Tensor:
        """Compute the hidden state of a block from the one above: ``W1_l h``.

        Given the output of a block, it predicts the input of that block: the variational loss
        compares the two.
        """
        return self.layer(block).run('descend', hidden)

    def add_low_rank(self, rank: int = 4, alpha: float = 1.0) -> None:
        """Freeze all weights, and tune a low-rank update of each instead (TOAST-Lite, sec. 3.2).

        Args:
            rank: Rank of the updates.
            alpha: Their scale is ``alpha / rank``.
        """
        self.requires_grad_(False)
        for layer in self._layers():
            for part in ('descend', 'emit'):
                layer.updates[part] = LowRankUpdate(layer.get_submodule(part), rank, alpha)

    def merge(self) -> None:
        """Write low-rank updates into the weights and drop them; without any, do nothing."""
        for layer in self._layers():
            layer.merge()

    def freeze_signal(self, block: int) -> None:
        """Freeze the weights that only the signal of this block depends on."""
        layer = self.layer(block)
        for module in (layer.emit, layer.updates['emit'] if layer.updates else None):
            if module is not None:
                module.requires_grad_(False)

    def layer(self, block: int) -> FeedbackLayer:
        """Layer of a receiving block."""
        return cast(FeedbackLayer, self.layers[str(block)])

    def _layers(self) -> list[FeedbackLayer]:
        return [self.layer(int(block)) for block in self.layers]


class LinearFeedback(FeedbackPath):
    """Feedback path of a transformer: linear layers without bias, activation or norm.

    Args:
        dim: Number C of channels.
        receivers: Numbers of the receiving blocks, counted from the input side.
        gain: Factor by which a matrix scales the norm of a random vector at the
            start. The signal passes up to ``len(receivers) + 1`` matrices. The
            published standard deviation of 0.02 does not depend on the width:
            narrow networks would get almost no signal. Defaults to the gain of
            0.02 at 768 channels.

    Raises:
        ValueError: The gain is not above 0.

    Example:
        >>> signals = LinearFeedback(192, range(12))(torch.rand(2, 197, 192))
        >>> signals[0].shape
        torch.Size([2, 197, 192])
    """

    def __init__(self, dim: int, receivers: Iterable[int], gain: float = PUBLISHED_GAIN) -> None:
        if gain <= 0:
            raise ValueError(f'feedback_gain={gain} must be above 0')
        super().__init__(
            {
                block: FeedbackLayer(
                    nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
                )
                for block in receivers
            }
        )
        for weight in self.parameters():
            nn.init.trunc_normal_(weight, std=gain / dim**0.5)


class DeconvFeedback(FeedbackPath):
    """Feedback path of a convolutional network (paper sec. 4.4).

    Every layer is a transposed convolution, which undoes the downsampling of
    its stage, and a 1 x 1 convolution, both without bias.

    Args:
        channels: Input channels of every stage, and output channels of the
            last: ``(3, C_0, ..., C_L-1)``.
        strides: Downsampling of every stage.
        receivers: Numbers of the receiving stages, counted from the input side.
        std: Initial standard deviation of the 1 x 1 convolutions, at the widths
            of ConvNeXt-B. At other widths it is adapted, so that each
            convolution scales a random map by the same factor; the one to the
            image keeps ``std``. Transposed convolutions start as PyTorch's,
            whose factor does not depend on the width. Defaults to 0.02, the
            published value.

    Raises:
        ValueError: The standard deviation is not above 0.

    Example:
        >>> feedback = DeconvFeedback((3, 96, 192), (4, 2), range(2))
        >>> feedback(torch.rand(1, 8, 8, 192), {0: (65, 64), 1: (16, 16)})[0].shape
        torch.Size([1, 3, 65, 64])
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        receivers: Iterable[int],
        std: float = 0.02,
    ) -> None:
        if std <= 0:
            raise ValueError(f'feedback_std={std} must be above 0')
        layers = {}
        for stage in receivers:
            above, here, stride = channels[stage + 1], channels[stage], strides[stage]
            emit = nn.Conv2d(here, here, 1, bias=False)
            width = 1 if stage == 0 else here / (CONVNEXT_B_STEM << (stage - 1))
            nn.init.trunc_normal_(emit.weight, std=std / width**0.5)
            descend = nn.ConvTranspose2d(above, here, stride, stride, bias=False)
            layers[stage] = FeedbackLayer(descend, emit)
        super().__init__(layers)

    def enter(self, selected: Tensor) -> Tensor:
        """``(B, H, W, C)`` to ``(B, C, H, W)``."""
        return selected.permute(0, 3, 1, 2)

    def descend(self, block: int, hidden: Tensor, size: Size | None = None) -> Tensor:
        """Deconvolve ``(B, C, H, W)``, and fit the size.

        Edges that downsampling cut off repeat the last values; edges that it padded are cut off.
        """
        hidden = super().descend(block, hidden)
        if size is None or tuple(size) == tuple(hidden.shape[-2:]):
            return hidden
        for dim, there in zip((2, 3), size, strict=True):
            hidden = hidden.narrow(dim, 0, min(hidden.shape[dim], there))
            here = hidden.shape[dim]
            edge = hidden.narrow(dim, here - 1, 1)
            # Not F.pad, whose gradient is not deterministic on GPUs and wrong under inductor.
            hidden = torch.cat([hidden, *[edge] * (there - here)], dim)
        return hidden
