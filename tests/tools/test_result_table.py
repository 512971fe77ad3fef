"""The command line over folders of runs."""

import json

import pytest


@pytest.fixture
def sweep(tmp_path):
    """A VTAB sweep of two seeds on two tasks."""
    folder = tmp_path / 'sweep'
    folder.mkdir()
    job = 'toast-last_vit-b16-in21k_1xb32-100e_vtab-224x224'
    lines = [
        dict(
            name=f'{task}/{seed}',
            job=job,
            phase='final',
            task=task,
            seed=seed,
            tuned=14_750_000,
            metrics={'accuracy/top1': value},
        )
        for task, seed, value in [('dtd', 1, 50.0), ('cifar', 1, 70.0), ('cifar', 2, 74.0)]
    ]
    (folder / 'runs.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    return folder


def test_table_and_curve(tool, sweep, tmp_path, capsys):
    out, curve = tmp_path / 'table.csv', tmp_path / 'curve.png'
    options = ('--published', '--format', 'csv', '--out', out, '--curve', curve)
    tool('analysis_tools/result_table', sweep, *options)
    lines = out.read_text().splitlines()
    assert lines[0] == 'backbone,method,tuned,cifar,dtd,mean'
    assert lines[-2] == 'vit-b16-in21k,TOAST (paper),,82.1,70.5,76.3'
    assert lines[-1] == 'vit-b16-in21k,toast-last,14.75M,72.0 ± 2.8,50.0,61.0'
    assert out.read_text() in capsys.readouterr().out
    assert curve.read_bytes().startswith(b'\x89PNG')


def test_mistakes(tool, sweep, tmp_path, capsys):
    with pytest.raises(SystemExit, match='nowhere is not a folder'):
        tool('analysis_tools/result_table', tmp_path / 'nowhere')
    with pytest.raises(SystemExit, match='occurs twice'):
        tool('analysis_tools/result_table', sweep, sweep)
    with pytest.raises(SystemExit, match=r'none/curve\.png cannot be written'):
        tool('analysis_tools/result_table', sweep, '--curve', tmp_path / 'none' / 'curve.png')
    with pytest.raises(SystemExit):
        tool('analysis_tools/result_table', sweep, '--curve', 'curve.pdf')
    assert 'must end in .png' in capsys.readouterr().err
