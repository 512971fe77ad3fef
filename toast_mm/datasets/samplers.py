"""mmengine's samplers, yielding indices that know the number of their draw.

Augmentation that depends on (seed, number of the draw) alone is the same
whatever the number of workers and processes, and after a resumption.
"""

from __future__ import annotations

from collections.abc import Iterator

import mmengine.dataset

from toast_mm.registry import DATA_SAMPLERS


class DrawnIndex(int):
    """Index of a sample, with where it was drawn.

    Args:
        index: The index itself.
        draw: Seed of the sampler, and how many samples all processes together
            drew before this one.
    """

    draw: tuple[int, int]

    def __new__(cls, index: int, draw: tuple[int, int]) -> DrawnIndex:
        self = super().__new__(cls, index)
        self.draw = draw
        return self

    def __reduce__(self) -> tuple:
        return DrawnIndex, (int(self), self.draw)

    # ConcatDataset subtracts and RepeatDataset takes the remainder on the way to the sample.
    def __sub__(self, other: int) -> DrawnIndex:
        return DrawnIndex(int(self) - other, self.draw)

    def __mod__(self, other: int) -> DrawnIndex:
        return DrawnIndex(int(self) % other, self.draw)


@DATA_SAMPLERS.register_module()
class InfiniteSampler(mmengine.dataset.InfiniteSampler):
    """mmengine's ``InfiniteSampler`` whose indices carry their draw."""

    def _infinite_indices(self) -> Iterator[int]:
        for number, index in enumerate(super()._infinite_indices()):
            yield DrawnIndex(index, (self.seed, number))


@DATA_SAMPLERS.register_module()
class DefaultSampler(mmengine.dataset.DefaultSampler):
    """mmengine's ``DefaultSampler`` whose indices carry their draw."""

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * self.total_size + self.rank
        for number, index in enumerate(super().__iter__()):
            yield DrawnIndex(index, (self.seed, first + number * self.world_size))
