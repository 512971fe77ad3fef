"""benchmarks/first_passes.py: conditions fit their tasks, and costs are those of the backbone."""

import importlib
from pathlib import Path

import pytest
import torch

from toast_mm.experiments import Outcome

ROOT = Path(__file__).parents[2]


@pytest.fixture
def program(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')
    monkeypatch.chdir(ROOT)
    return importlib.import_module('first_passes')


def test_conditions_of_each_task(program):
    names = {task: set(program.conditions_of(task)) for task in program.TASKS}
    whole = {'no second pass', 'full', 'scale 1/2', 'scale 1/3'}
    assert names == {
        'cub25': whole | {'scale 1/2, cached'},
        'camvid': whole | {'scale 1/2, cached'},
        'cued': whole,  # without random augmentation
        'lite0': whole,
    }
    cache = program.conditions_of('camvid')['scale 1/2, cached']['first_pass_cache']
    assert cache == dict(augmented=True, whole_size=(184, 240))


def test_table_and_picture(program, tmp_path):
    outcomes = {'full': Outcome({'optim_wrapper.optimizer.lr': 0.003}, 47.25, [50.0, 51.0, 52.0])}
    costs = {'full': [2.1, 3.2, 1.0, 1.0]}
    lines = program.table('cub25', outcomes, costs).splitlines()
    assert lines[-1] == '| full | 0.003 | 47.2 | 51.0 ± 1.0 | 2.10 | 3.20 | 1.00 | 1.00 |'
    program.draw({'cub25': (outcomes, costs)}, str(tmp_path / 'picture.png'))
    assert (tmp_path / 'picture.png').stat().st_size > 1000


@pytest.mark.slow
def test_costs(program, monkeypatch):
    monkeypatch.setattr(program, 'PAIRS', 1)
    torch.manual_seed(0)
    costs = program.costs('cub25')
    predictions = {name: cost[0] for name, cost in costs.items()}
    assert predictions['no second pass'] == 1
    assert 1.8 < predictions['full'] < 2.1
    assert predictions['scale 1/3'] < predictions['scale 1/2'] < 1.4
    assert predictions['scale 1/2, cached'] == predictions['scale 1/2']
    steps = {name: cost[1] for name, cost in costs.items()}
    assert steps['no second pass'] < steps['scale 1/2, cached'] < steps['scale 1/2'] < steps['full']
    assert costs['full'][2] == 1 and all(cost[2] <= 1 for cost in costs.values())
