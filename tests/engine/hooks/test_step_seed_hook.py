import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook

from toast_mm.datasets import SeedAugmentation, drawing
from toast_mm.engine import Runner, StepSeedHook


def draw() -> tuple:
    return random.random(), np.random.rand(), torch.rand(1).item()


def draw_in_step(seed: int, iteration: int, rank: int) -> tuple:
    runner = SimpleNamespace(seed=seed, iter=iteration, rank=rank)
    StepSeedHook().before_train_iter(runner, batch_idx=0, data_batch=None)
    return draw()


def test_function_of_seed_iteration_and_process():
    first = draw_in_step(3, 14, 1)
    draw()
    assert draw_in_step(3, 14, 1) == first
    for other in ((4, 14, 1), (3, 15, 1), (3, 14, 0), (14, 3, 1)):
        assert not set(draw_in_step(*other)) & set(first)


@pytest.mark.parametrize('number', [0, 5])
def test_differs_from_the_augmentation(number):
    """Dropout of step i must be independent of the crop of draw i."""
    with drawing((3, number)):
        SeedAugmentation()({})
    assert not set(draw()) & set(draw_in_step(3, number, 0))


def test_undisturbed_by_other_hooks(toy_config, tmp_path):
    class DrawHook(Hook):
        def before_train_iter(self, *args, **kwargs) -> None:
            draw()

    weights = []
    for disturb in (False, True):
        runner = Runner.from_cfg(toy_config(tmp_path / str(disturb)))
        if disturb:
            runner.register_hook(DrawHook())
        runner.train()
        weights.append(runner.model.head.weight)
    assert torch.equal(*weights)
