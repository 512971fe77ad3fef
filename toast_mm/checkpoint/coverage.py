"""Whether a checkpoint covers what it is loaded into."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from .finite import is_float
from .io import CheckpointError
from .loadable import LoadableBackbone


def check_fit(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], part: str) -> None:
    """Check that ``given`` holds every tensor of ``expected`` in its shape, and no whole numbers.

    Args:
        expected: Tensors of the model by name.
        given: Tensors of the checkpoint by name.
        part: Name of this part of the model, for the error.

    Raises:
        CheckpointError: Lists what is missing or has another shape or type.
    """
    missing = [name for name in expected if name not in given]
    retyped = other_types(expected, given)
    reshaped = [
        f'{name} {tuple(given[name].shape)} instead of {tuple(tensor.shape)}'
        for name, tensor in expected.items()
        if isinstance(given.get(name), Tensor) and given[name].shape != tensor.shape
    ]
    if not missing and not reshaped and not retyped:
        return
    covered = len(expected) - len({*missing, *(text.split()[0] for text in reshaped + retyped)})
    message = [f'the checkpoint covers {covered} of {len(expected)} tensors of the {part}']
    if missing:
        message.append(f'missing: {_some(missing)}')
    if reshaped:
        message.append(f'of another shape: {_some(reshaped)}')
    if retyped:
        message.append(f'of another type: {_some(retyped)}')
    raise CheckpointError('; '.join(message))


def other_types(expected: Mapping[str, Tensor], given: Mapping[str, Any]) -> list[str]:
    """Describe what is given in place of tensors of floating point.

    PyTorch would convert the whole numbers of a quantised model, without their scale.
    """
    return [
        f'{name} {getattr(given[name], "dtype", type(given[name]).__name__)} instead of '
        f'{tensor.dtype}'
        for name, tensor in expected.items()
        if name in given and tensor.is_floating_point() and not is_float(given[name])
    ]


def check_coverage(
    backbone: LoadableBackbone, state_dict: Mapping[str, Tensor], prefix: str = ''
) -> None:
    """Check that weights fit a backbone: none is missing, and none is left over.

    Weights without a top-down module may be those of a plain backbone. A module for another width
    or route is refused, and so are the weights of a deeper backbone.

    Args:
        backbone: Backbone that will take the weights.
        state_dict: Weights by name.
        prefix: Beginning of the names of the backbone's weights. Defaults to ``''``.

    Raises:
        CheckpointError: Lists the missing weights, or those left over.
    """
    given = [name[len(prefix) :] for name in state_dict if name.startswith(prefix)]
    own = backbone.state_dict()
    _check_same_kind(backbone, given)
    _check_same_bands(backbone, state_dict, prefix)
    wanted = {'base'}
    if any(backbone.part_of(name) == 'topdown' for name in given):
        _check_same_form(backbone, given)
        wanted.add('topdown')
    if not backbone.added.isdisjoint(given):
        wanted.add('added')
    expected = {n: tensor for n, tensor in own.items() if backbone.part_of(n) in wanted}
    check_fit({f'{prefix}{n}': tensor for n, tensor in expected.items()}, state_dict, 'backbone')
    parts = {_first(name) for name in expected}
    if surplus := [name for name in given if name not in own and _first(name) in parts]:
        raise CheckpointError(
            'the checkpoint holds more than this backbone has: '
            f'{", ".join(prefix + name for name in surplus)}'
        )


def is_folded(names: Iterable[str]) -> bool:
    """Whether these names are those of a whole checkpoint with a folded top-down module."""
    topdown = [name for name in names if 'topdown.' in name]
    return bool(topdown) and not any(n.endswith('selection.channel_transform') for n in topdown)


def _check_same_kind(backbone: LoadableBackbone, given: Iterable[str]) -> None:
    """Name another kind of backbone as such, instead of listing all its missing weights."""
    blocks = [f'{name}.' for name in backbone.block_names()]
    known = tuple(f'.{name}' for name in backbone.state_dict() if name.startswith(tuple(blocks)))
    given = [name for name in given if backbone.part_of(name) != 'topdown']
    if given and not any(f'.{name}'.endswith(known) for name in given):  # also behind a prefix
        raise CheckpointError(
            f'the checkpoint is of another kind of backbone than {type(backbone).__name__}: it '
            f'holds {_some(sorted({_part(name) for name in given}))}, but not the first block, '
            f'{", ".join(name[:-1] for name in blocks)}'
        )


def _check_same_bands(
    backbone: LoadableBackbone, state_dict: Mapping[str, Tensor], prefix: str
) -> None:
    """Name a stem for another number of bands as such."""
    stem = state_dict.get(f'{prefix}{backbone.stem_weight}')
    if isinstance(stem, Tensor) and stem.ndim == 4 and stem.shape[1] != backbone.in_channels:
        raise CheckpointError(
            f'the checkpoint is for images of {stem.shape[1]} bands '
            f'({prefix}{backbone.stem_weight}), but this backbone has in_channels='
            f'{backbone.in_channels}: only init_cfg and pretrained=True fit a stem to other bands, '
            'and only one of 3 bands'
        )


def _check_same_form(backbone: LoadableBackbone, given: Iterable[str]) -> None:
    """Refuse TOAST for TOAST-Lite and the reverse, and unfolded for folded weights."""
    given = [name for name in given if backbone.part_of(name) == 'topdown']
    if backbone.folded and not is_folded(given):
        raise CheckpointError(
            'this backbone is folded for inference, but the checkpoint is not: load it into a '
            'backbone that is not, and fold that'
        )
    lite = backbone.topdown is not None and backbone.topdown.lite
    if lite == any('.updates.' in name for name in given):
        return
    if lite:
        raise CheckpointError(
            'the checkpoint is of TOAST, without low-rank updates, but this backbone has some: '
            'leave out lite, or name the checkpoint by pretuned to tune updates of it'
        )
    raise CheckpointError(
        'the checkpoint is of TOAST-Lite, with low-rank updates of the feedback path, and this '
        'backbone has no such updates: build it with lite=dict(rank=...) of that training'
    )


def _part(name: str) -> str:
    """The module of a weight, or the list of modules that it is in."""
    parts = name.split('.')
    numbers = [place for place, part in enumerate(parts) if part.isdigit()]
    if numbers:
        return '.'.join(parts[: numbers[0]])
    return name.removesuffix('.weight').removesuffix('.bias')


def _first(name: str) -> str:
    return name.split('.')[0]


def part_is_wanted() -> bool:
    """Whether ``load_state_dict`` was called with ``strict=False``, for hooks before loading.

    PyTorch always passes ``strict=True`` to its hooks. So does mmengine, which loads by a function
    of its own. Only the call itself shows the argument.
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
