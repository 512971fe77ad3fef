"""Whether a checkpoint covers what it is loaded into."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from torch import Tensor, nn

from .io import CheckpointError


def check_fit(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], part: str) -> None:
    """Demand that ``given`` holds every tensor of ``expected`` in its shape.

    Args:
        expected: Tensors of the model by name.
        given: Tensors of the checkpoint by name.
        part: The part of the model that is spoken of in the error.

    Raises:
        CheckpointError: Lists what is missing or has another shape.
    """
    missing = [name for name in expected if name not in given]
    reshaped = [
        f'{name} {tuple(given[name].shape)} instead of {tuple(tensor.shape)}'
        for name, tensor in expected.items()
        if name in given and given[name].shape != tensor.shape
    ]
    if not missing and not reshaped:
        return
    covered = len(expected) - len(missing) - len(reshaped)
    message = [f'the checkpoint covers {covered} of {len(expected)} tensors of the {part}']
    if missing:
        message.append(f'missing: {_some(missing)}')
    if reshaped:
        message.append(f'of another shape: {_some(reshaped)}')
    raise CheckpointError('; '.join(message))


def part_is_wanted() -> bool:
    """Whether the caller of ``load_state_dict`` said ``strict=False``, for hooks before loading.

    PyTorch tells its hooks ``strict=True`` in any case, and so does mmengine, which loads by a
    function of its own: the call itself says what was asked for.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code is nn.Module.load_state_dict.__code__:
            return not frame.f_locals['strict']
        frame = frame.f_back
    return False


def _some(names: list[str], number: int = 12) -> str:
    """The first of many names, and how many there are."""
    more = f' and {len(names) - number} more' if len(names) > number else ''
    return ', '.join(names[:number]) + more
