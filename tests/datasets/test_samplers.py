import copy
import itertools
import pickle

import mmengine
import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from toast_mm.datasets import DefaultSampler, DrawnIndex, InfiniteSampler
from toast_mm.datasets.samplers import take_draw


class Numbers(BaseDataset):
    """Item i is ``(i, its draw)``."""

    def __init__(self, size: int = 5, **kwargs) -> None:
        self.size = size
        super().__init__(pipeline=[self.with_draw], serialize_data=False, **kwargs)

    def load_data_list(self) -> list[dict]:
        return [dict(number=i) for i in range(self.size)]

    @staticmethod
    def with_draw(results: dict) -> tuple:
        return results['number'], take_draw()


@pytest.fixture
def world(monkeypatch):
    """Pretend to be process ``rank`` of ``size``."""

    def pretend(rank: int, size: int) -> None:
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (rank, size))

    return pretend


def infinite_stream(size: int, seed: int, number: int) -> list[int]:
    """What mmengine's sampler draws."""
    return list(itertools.islice(mmengine.dataset.InfiniteSampler(range(size), seed=seed), number))


def epoch_stream(size: int, seed: int, epoch: int) -> list[int]:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed + epoch)).tolist()


def take(sampler, number: int) -> list[tuple]:
    """Indices and draws as plain numbers."""
    return [(int(index), index.draw) for index in itertools.islice(sampler, number)]


class TestDrawnIndex:
    index = DrawnIndex(7, (3, 40))

    def test_is_an_int(self):
        assert self.index == 7 and hash(self.index) == hash(7) and isinstance(self.index, int)
        assert 'abcdefgh'[self.index] == 'h'

    @pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
    def test_survives_pickling(self, protocol):
        for index in (
            pickle.loads(pickle.dumps(self.index, protocol)),
            copy.copy(self.index),
            copy.deepcopy([self.index])[0],
        ):
            assert (type(index), int(index), index.draw) == (DrawnIndex, 7, (3, 40))


class TestInfiniteSampler:
    @pytest.mark.parametrize('shuffle', [True, False])
    def test_counts_draws_over_epochs(self, shuffle):
        drawn = take(InfiniteSampler(Numbers(), shuffle=shuffle, seed=3), 13)
        indices = infinite_stream(5, 3, 13) if shuffle else [i % 5 for i in range(13)]
        assert drawn == [(index, (3, number)) for number, index in enumerate(indices)]

    @pytest.mark.parametrize('size', [2, 3])
    def test_processes_share_one_stream(self, world, size):
        draws = []
        for rank in range(size):
            world(rank, size)
            draws.append(take(InfiniteSampler(Numbers(), seed=3), 6))
            assert [draw[1][1] for draw in draws[-1]] == list(range(rank, 6 * size, size))
        world(0, 1)
        one_process = take(InfiniteSampler(Numbers(), seed=3), 6 * size)
        assert sorted(itertools.chain(*draws), key=lambda draw: draw[1]) == one_process

    @pytest.mark.parametrize('rank', [0, 1])
    def test_skip(self, world, rank):
        """Skip samples as mmengine does when it resumes."""
        world(rank, 2)
        sampler = InfiniteSampler(Numbers(), seed=3)
        if not hasattr(sampler, 'skip'):
            pytest.skip('this mmengine draws and drops instead')
        sampler.skip(4)
        assert take(sampler, 5) == take(InfiniteSampler(Numbers(), seed=3), 9)[4:]

    def test_another_seed(self):
        drawn = take(InfiniteSampler(Numbers(), seed=4), 5)
        assert drawn == [(i, (4, n)) for n, i in enumerate(infinite_stream(5, 4, 5))]


class TestDefaultSampler:
    @pytest.mark.parametrize('shuffle', [True, False])
    def test_counts_draws_over_epochs(self, shuffle):
        sampler = DefaultSampler(Numbers(), shuffle=shuffle, seed=3)
        for epoch in (0, 1, 5):
            sampler.set_epoch(epoch)
            indices = epoch_stream(5, 3, epoch) if shuffle else range(5)
            assert take(sampler, 99) == [
                (index, (3, 5 * epoch + number)) for number, index in enumerate(indices)
            ]
        assert len(sampler) == 5

    @pytest.mark.parametrize('round_up', [True, False])
    def test_processes_share_one_stream(self, world, round_up):
        """Rounding up, the first sample is drawn once more, as draw 5 of 6."""
        indices = epoch_stream(5, 3, 2)  # of a single process
        draws, per_epoch = [], 6 if round_up else 5
        for rank in (0, 1):
            world(rank, 2)
            sampler = DefaultSampler(Numbers(), seed=3, round_up=round_up)
            sampler.set_epoch(2)
            draws += take(sampler, 99)
        indices += indices[:1] * round_up
        assert sorted(draws, key=lambda draw: draw[1]) == [
            (index, (3, 2 * per_epoch + number)) for number, index in enumerate(indices)
        ]


@pytest.mark.parametrize('name', ['InfiniteSampler', 'DefaultSampler'])
class TestBothSamplers:
    @pytest.mark.filterwarnings('ignore:This DataLoader will create')  # with one core
    @pytest.mark.parametrize('num_workers', [0, 2])
    def test_draw_reaches_the_sample(self, name, num_workers):
        """Through mmengine's data loader, its workers, and data sets of data sets."""
        parts = dict(type=ConcatDataset, datasets=[Numbers(3), Numbers(2)])
        dataset = RepeatDataset(parts, 2)
        loader = Runner.build_dataloader(
            dict(
                dataset=dataset,
                sampler=dict(type=f'toast_mm.{name}', shuffle=False),
                batch_size=2,
                num_workers=num_workers,
                collate_fn=dict(type=list),
            ),
            seed=8,
        )
        assert list(itertools.chain(*itertools.islice(loader, 5))) == [
            (number, (8, draw)) for draw, number in enumerate([0, 1, 2, 0, 1] * 2)
        ]


def test_stock_loader():
    """A torch DataLoader needs no more of a sampler than mmengine's."""
    dataset = Numbers()
    sampler = DefaultSampler(dataset, shuffle=False, seed=0)
    loader = DataLoader(dataset, batch_size=5, sampler=sampler, collate_fn=list)
    assert list(loader) == [[(i, (0, i)) for i in range(5)]]
