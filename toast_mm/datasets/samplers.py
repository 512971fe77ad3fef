"""mmengine's samplers, yielding indices that know the number of their draw.

Augmentation that depends on (seed, number of the draw) alone is the same
whatever the number of workers and processes, and after a resumption.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import mmengine.dataset

from toast_mm.registry import DATA_SAMPLERS

Draw = tuple[int, int]


class DrawnIndex(int):
    """Index of a sample, with where it was drawn.

    Args:
        index: The index itself.
        draw: Seed of the sampler, and how many samples all processes together
            drew before this one.
    """

    draw: Draw

    def __new__(cls, index: int, draw: Draw) -> DrawnIndex:
        self = super().__new__(cls, index)
        self.draw = draw
        return self

    def __reduce__(self) -> tuple:
        return DrawnIndex, (int(self), self.draw)


# The draw of the sample that is being fetched; None once a pipeline took it.
_current: ContextVar[Draw | None] = ContextVar('draw')


@contextmanager
def drawing(draw: Draw) -> Iterator[None]:
    """The sample fetched inside is this draw, whatever data sets its index passes on the way."""
    token = _current.set(draw)
    try:
        yield
    finally:
        _current.reset(token)


def take_draw() -> Draw | None:
    """The draw of the sample that is being fetched.

    Only who asks first gets it. Further pipelines of the same sample, which load what is mixed in
    or stands in for an unusable sample, get None.

    Raises:
        LookupError: No drawn sample is being fetched.
    """
    draw = _current.get()
    _current.set(None)
    return draw


def fetch(dataset: Any, indices: Sequence[int]) -> list:
    """Samples of a data set, each drawn as its index says."""
    samples = []
    for index in indices:
        if isinstance(index, DrawnIndex):
            with drawing(index.draw):
                samples.append(dataset[index])
        else:
            samples.append(dataset[index])
    return samples


def _carry_draws(dataset: Any) -> None:
    """Let data loaders fetch from a data set by :func:`fetch`.

    Data sets of data sets look an index up in lists of their own (ClassBalancedDataset,
    torch's Subset), and what comes out is a plain int. PyTorch's loaders ask a data set that has
    ``__getitems__`` for a batch at once: the outermost one, with the indices of the sampler.
    """
    if hasattr(dataset, '__dict__'):
        dataset.__getitems__ = partial(fetch, dataset)


@DATA_SAMPLERS.register_module()
class InfiniteSampler(mmengine.dataset.InfiniteSampler):
    """mmengine's ``InfiniteSampler`` whose indices carry their draw."""

    def __init__(self, dataset: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(dataset, *args, **kwargs)
        _carry_draws(dataset)

    def _infinite_indices(self) -> Iterator[int]:
        for number, index in enumerate(super()._infinite_indices()):
            yield DrawnIndex(index, (self.seed, number))


@DATA_SAMPLERS.register_module()
class DefaultSampler(mmengine.dataset.DefaultSampler):
    """mmengine's ``DefaultSampler`` whose indices carry their draw."""

    def __init__(self, dataset: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(dataset, *args, **kwargs)
        _carry_draws(dataset)

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * self.total_size + self.rank
        for number, index in enumerate(super().__iter__()):
            yield DrawnIndex(index, (self.seed, first + number * self.world_size))
