import random

import numpy as np
import pytest
import torch

from toast_mm.seeding import kept_random_state, seed_everything


def draw() -> tuple:
    return random.random(), np.random.rand(), torch.rand(1).item(), torch.rand(1).item()


def draw_after(*counters: int) -> tuple:
    seed_everything(*counters)
    return draw()


def test_equal_counters_give_equal_streams():
    first = draw_after(3, 14)
    draw()
    assert draw_after(3, 14) == first


@pytest.mark.parametrize('generator', range(3), ids=['python', 'numpy', 'torch'])
def test_different_counters_give_different_streams(generator):
    """Also if they differ in trailing zeros, in order, or in number."""
    counters = [(), (0,), (0, 0), (1,), (1, 0), (0, 1), (1, 0, 0), (1, 1), (1, 2), (2, 1), (3,)]
    counters += [(2**32,), (2**31 - 1, 160000, 7), (2**31 - 1, 160000, 8)]
    assert len({draw_after(*each)[generator] for each in counters}) == len(counters)


def test_generators_have_seeds_of_their_own():
    """numpy and torch run the same Mersenne Twister: one seed would give both the same stream."""
    seed_everything(5)
    python, seeds = random.getstate(), (torch.initial_seed(), int(np.random.get_state()[1][0]))
    assert seeds[0] != seeds[1]
    for seed in seeds:
        random.seed(seed)
        assert random.getstate() != python


def test_neighbours_are_not_correlated():
    values = np.array([draw_after(0, i, 0) for i in range(400)])
    assert np.abs(values.mean(axis=0) - 0.5).max() < 0.07  # 5 sigma of a mean of 400
    assert np.abs(np.corrcoef(values[:-1].T, values[1:].T)[:4, 4:]).max() < 0.25
    assert np.abs(np.corrcoef(values.T) - np.eye(4)).max() < 0.25


def test_negative_counter():
    with pytest.raises(ValueError, match='non-negative'):
        seed_everything(0, -1)


def test_the_generator_of_torch_is_seeded_as_by_torch(monkeypatch):
    """Without a GPU torch.manual_seed is not called: it formats the stack, which takes longer."""
    seed_everything(3, 14)
    drawn, seed = torch.rand(4), torch.initial_seed()
    torch.manual_seed(seed)
    assert torch.equal(torch.rand(4), drawn)
    seeds = []
    monkeypatch.setattr(torch, 'manual_seed', seeds.append)
    monkeypatch.setattr('toast_mm.seeding.get_device', lambda: 'cpu')
    seed_everything(3, 14)
    assert seeds == []
    monkeypatch.setattr('toast_mm.seeding.get_device', lambda: 'cuda')
    seed_everything(3, 14)
    assert seeds == [seed]


@pytest.mark.parametrize(
    ('device', 'worker', 'seeds'), [('cuda', None, 1), ('cuda', 'a', 0), ('cpu', None, 0)]
)
def test_gpus_are_seeded_where_they_are_used(monkeypatch, device, worker, seeds):
    """Not in a process that loads data: it takes as long as to load a small image."""
    monkeypatch.setattr('toast_mm.seeding.get_device', lambda: device)
    monkeypatch.setattr('toast_mm.seeding.get_worker_info', lambda: worker)
    seen = []
    monkeypatch.setattr(torch, 'manual_seed', seen.append)
    seed_everything(1)
    assert len(seen) == seeds


def test_kept_random_state_leaves_all_generators_as_they_were():
    seed_everything(1)
    expected = draw()
    seed_everything(1)
    with kept_random_state():
        assert draw() == expected  # the same streams inside
    assert draw() == expected


def test_kept_random_state_does_not_start_cuda(monkeypatch):
    """As in a process that loads data beside a training on GPUs, where CUDA cannot start."""
    monkeypatch.setattr(torch.cuda, 'is_initialized', lambda: False)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    with kept_random_state():
        draw()


def test_kept_random_state_keeps_that_of_gpus_in_use(monkeypatch):
    states = {0: 'first', 1: 'second'}
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'is_initialized', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_rng_state', states.__getitem__)
    monkeypatch.setattr(
        torch.cuda, 'set_rng_state', lambda state, device: states.update({device: state})
    )
    with kept_random_state():
        states.update({0: 'drawn', 1: 'drawn'})
    assert states == {0: 'first', 1: 'second'}
