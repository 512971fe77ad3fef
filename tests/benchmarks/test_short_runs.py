"""benchmarks/short_runs.py measures what a run takes outside of its steps."""

import io
import json
import sys
from pathlib import Path

import pytest
from mmengine.model import BaseModel

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'


def test_neighbouring_runs_are_compared(monkeypatch):
    """The first run of each does not count."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from short_runs import overheads, ratio

    order = []

    class Trainer:
        def __init__(self, name, seconds):
            self.name, self.seconds = name, iter(seconds)

        def train(self):
            order.append(self.name)
            return dict.fromkeys(('clock', 'CPU'), next(self.seconds))

        def close(self):
            order.append(f'end of {self.name}')

    found = overheads(dict(a=Trainer('a', [9, 1, 2, 30]), b=Trainer('b', [9, 2, 4, 40])), 3)
    assert order == [*'abababab', 'end of a', 'end of b']
    assert found['a']['CPU'] == [1, 2, 30]
    assert ratio(found['a']['CPU'], found['b']['CPU']) == 0.5


def test_steps_are_no_overhead(monkeypatch, capsys):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import short_runs

    now = dict(clock=0.0, CPU=0.0)

    def spend(clock, cpu):
        now['clock'] += clock
        now['CPU'] += cpu

    def runs(job):
        for number in range(2):
            spend(1 + number, 2)  # start
            for _ in range(3):
                BaseModel.train_step(None)
                spend(0.25, 0.5)  # data and hooks
            BaseModel.val_step(None)
            yield

    for name in ('train_step', 'val_step'):
        monkeypatch.setattr(BaseModel, name, lambda self: spend(100, 200))
    monkeypatch.setattr(short_runs, '_now', now.copy)
    monkeypatch.setattr(short_runs, '_sweep', runs)
    monkeypatch.setattr(sys, 'stdin', io.StringIO('\n\n'))
    monkeypatch.setattr(sys, 'stdout', sys.stdout)
    short_runs._serve(dict(kind='sweep'))
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert answers == [dict(clock=1.75, CPU=3.5), dict(clock=2.75, CPU=3.5)]


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['sweep', 'mmengine'])
def test_a_process_trains_as_often_as_asked(kind, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from short_runs import Trainer
    from small_jobs import write_config, write_images
    from startup import plain

    write_images(tmp_path / 'images')
    job = write_config('short', tmp_path / 'images', tmp_path)
    trainer = Trainer(kind, plain(job) if kind == 'mmengine' else job, tmp_path / 'runs')
    seconds = [trainer.train() for _ in range(2)]
    trainer.close()
    assert all(each[name] > 0 for each in seconds for name in ('clock', 'CPU'))
    assert len(list((tmp_path / 'runs').rglob('scalars.json'))) == 2
    assert not list((tmp_path / 'runs').rglob('*.pth'))
