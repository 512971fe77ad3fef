"""benchmarks/startup.py measures both programs, and sees a ratio above its bound."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'


@pytest.mark.slow
def test_every_part_is_measured(monkeypatch, capsys):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import startup

    short = {'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 1}
    monkeypatch.setattr(startup, '_SHORT', startup._SHORT | short)
    monkeypatch.setattr(sys, 'argv', ['startup.py', '--runs', '1'])
    startup.main()
    rows = [line.strip('| ').split(' | ') for line in capsys.readouterr().out.splitlines()[2:]]
    parts = ['first iteration', 'config formatting', 'environment', 'checkpoint', 'whole run']
    parts.append('run in a sweep')
    assert [row[0] for row in rows] == parts
    assert all(float(cell) > 0 for _, *cells in rows for cell in cells)
    seconds = {name: [float(ours), float(other)] for name, ours, other, *_ in rows}
    assert all(a < b for a, b in zip(seconds['first iteration'], seconds['whole run'], strict=True))


@pytest.mark.parametrize(
    ('number', 'short', 'status'),
    [
        (2.0, 0.5, 'above the bound: checkpoint'),
        (1.0, 0.5, None),
        (1.0, 1.3, 'above the bound: run in a sweep'),
    ],
)
def test_the_bounds(number, short, status, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import startup

    def run(script, config, out):
        slower = 'toast_mm' in out.name
        return dict.fromkeys(startup.BOUNDS, 1.0) | {'checkpoint': number if slower else 1.0}

    monkeypatch.setattr(startup, 'run', run)
    swept = dict(toast_mm=[short, 2 * short], mmengine=[1.0, 2.0])
    monkeypatch.setattr(startup, 'swept', lambda folder, runs: swept)
    monkeypatch.setattr(sys, 'argv', ['startup.py', '--check'])
    if status is None:
        startup.main()
        return
    with pytest.raises(SystemExit) as ended:
        startup.main()
    assert ended.value.code == status
