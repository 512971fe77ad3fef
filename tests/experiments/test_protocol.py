"""The choice of settings, with trainings whose metrics are given."""

import pytest

from toast_mm.experiments import Task, protocol, run_protocol

METRIC = 'accuracy/top1'
GRID = [{'lr': 0.1, 'decay': 0.0}, {'lr': 0.5, 'decay': 0.0}, {'lr': 0.9, 'decay': 0.0}]


@pytest.fixture
def trained(monkeypatch):
    """Fake runs; the learning rate gives the metric of a search."""
    runs = []

    def train(asked, out_dir, workers, devices, cluster):
        asked = list(asked)
        runs.extend(asked)
        held_out = {0.1: 60.0, 0.5: 80.0, 0.9: 80.0}
        return {
            run.name: {METRIC: held_out[run.options['lr']] if run.seed == 0 else 10.0 * run.seed}
            for run in asked
        }

    monkeypatch.setattr(protocol, 'run_all', train)
    return runs


def test_the_first_of_the_best_is_chosen_and_other_seeds_are_the_result(trained):
    task = Task(
        'birds',
        'job.py',
        options={'data': 'birds', 'split': 'none'},
        search={'split': 'held out'},
        final={'split': 'test'},
        grid=GRID,
        info={'task': 'birds'},
    )
    outcome = run_protocol([task], [3, 4], 'out')['birds']
    assert outcome.chosen == GRID[1]  # as good as the last, and lower
    assert outcome.selection == 80 and outcome.values == [30, 40]
    names = [run.name for run in trained]
    assert names == [f'birds/search/{rate}-0.0' for rate in (0.1, 0.5, 0.9)] + [
        'birds/3',
        'birds/4',
    ]
    for run in trained[:3]:
        assert run.options['split'] == 'held out' and run.info == dict(task='birds', phase='search')
    for run, seed in zip(trained[3:], (3, 4), strict=True):
        assert run.options == {'data': 'birds', 'split': 'test', **GRID[1]}
        assert run.seed == seed and run.info == dict(task='birds', phase='final', seed=seed)


def test_tasks_choose_for_themselves(trained):
    tasks = [Task('a', 'job.py', grid=GRID[:1]), Task('b', 'job.py', grid=GRID)]
    outcomes = run_protocol(tasks, [5], 'out')
    assert outcomes['a'].chosen == GRID[0] and outcomes['b'].chosen == GRID[1]
    assert [run.name for run in trained[-2:]] == ['a/5', 'b/5']
