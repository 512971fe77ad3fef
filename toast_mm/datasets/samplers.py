"""mmengine's samplers with counted draws: each index carries its number in the order of drawing.

Augmentation that depends only on (seed, number of the draw) is the same for any
number of workers and processes, and after a resumption.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import islice
from typing import Any

import mmengine.dataset

from toast_mm.registry import DATA_SAMPLERS

Draw = tuple[int, int]


class DrawnIndex(int):
    """Index of a sample with the place of its draw.

    Args:
        index: The index itself.
        draw: Seed of the sampler, and number of samples that all processes
            together drew before this one.
    """

    draw: Draw

    def __new__(cls, index: int, draw: Draw) -> DrawnIndex:
        self = super().__new__(cls, index)
        self.draw = draw
        return self

    def __reduce__(self) -> tuple:
        return DrawnIndex, (int(self), self.draw)


# The draw of the sample that is being fetched; None after a pipeline has taken it.
_current: ContextVar[Draw | None] = ContextVar('draw')


@contextmanager
def drawing(draw: Draw) -> Iterator[None]:
    """Mark the sample that is fetched inside as this draw, through any wrappers of data sets."""
    token = _current.set(draw)
    try:
        yield
    finally:
        _current.reset(token)


def take_draw() -> Draw | None:
    """Take the draw of the sample that is being fetched.

    Only the first caller gets it. Other pipelines that run for the same sample get None: they load
    images to mix in, or a replacement for an unusable sample.

    Raises:
        LookupError: No drawn sample is being fetched.
    """
    draw = _current.get()
    _current.set(None)
    return draw


def fetch(dataset: Any, indices: Sequence[int]) -> list:
    """Fetch samples of a data set, each marked as the draw that its index carries."""
    samples = []
    for index in indices:
        if isinstance(index, DrawnIndex):
            with drawing(index.draw):
                samples.append(dataset[index])
        else:
            samples.append(dataset[index])
    return samples


def _carry_draws(dataset: Any) -> None:
    """Make data loaders fetch from a data set with :func:`fetch`.

    Wrappers of data sets (ClassBalancedDataset, torch's Subset) translate an index into a plain
    int, which loses the draw. PyTorch's loaders call ``__getitems__`` of the outermost data set, if
    there is one, with the indices of the sampler.
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
    """mmengine's ``DefaultSampler`` whose indices carry their draw.

    Attributes:
        seen: Number of samples that this process leaves out at the beginning of an epoch, since a
            training that was interrupted has seen them.
    """

    seen = 0

    def __init__(self, dataset: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(dataset, *args, **kwargs)
        _carry_draws(dataset)

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * self.total_size + self.rank
        indices = enumerate(super().__iter__())
        for number, index in islice(indices, self.seen, None):
            yield DrawnIndex(index, (self.seed, first + number * self.world_size))
