"""Weights that are infinite or NaN."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .io import CheckpointError


def check_finite(weights: Mapping[str, Tensor], file: str | None = None) -> None:
    """Check that no weight holds infinite values or NaN.

    Args:
        weights: By name.
        file: Where they are from, for the error.

    Raises:
        CheckpointError: Names the first, and says how many there are.
    """
    if spoiled := not_finite(weights.items()):
        first = weights[spoiled[0]]
        number = int((~first.isfinite()).sum())
        where = f'{file}: ' if file else ''
        more = f', and {len(spoiled) - 1} other tensors' if len(spoiled) > 1 else ''
        raise CheckpointError(
            f'{where}{number} of {first.numel()} values of {spoiled[0]} are not finite{more}: the '
            'training that wrote it had diverged; take an earlier checkpoint'
        )


def not_finite(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Names of the tensors that hold infinite values or NaN; waits for the device once.

    Of a sharded tensor it sees the part of this process.
    """
    parts = ((name, t.to_local() if hasattr(t, 'to_local') else t) for name, t in tensors)
    named = [(name, tensor) for name, tensor in parts if is_float(tensor) and tensor.numel()]
    if not named:
        return []
    good = torch.stack([tensor.detach().isfinite().all().cpu() for _, tensor in named])
    return [name for (name, _), fine in zip(named, good.tolist(), strict=True) if not fine]


def is_float(value: Any) -> bool:
    """Whether it is a tensor of floating point, and not of integers."""
    return isinstance(value, Tensor) and value.is_floating_point()
