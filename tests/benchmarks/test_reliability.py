"""benchmarks/reliability.py: killed jobs end as undisturbed ones, and it sees one that does not."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
# A resumed training forgets the state of its optimizer. It is killed at the end.
FORGETFUL = """
import random, sys
sys.path.insert(0, {folder!r})
import reliability
from mmengine.optim import OptimWrapper
OptimWrapper.load_state_dict = lambda *args, **kwargs: None
random.Random.randrange = lambda self, number: number - 5
reliability.KINDS = [reliability.CUT]
sys.argv = ['reliability.py', '--kills', '1']
reliability.main()
"""


def run(*command):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True)


@pytest.mark.slow
def test_ten_kills():
    """Each kind once."""
    done = run(BENCHMARKS / 'reliability.py', '--kills', '10', '--seed', '0')
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(', equal, ') == 10
    assert 'DIFFERS' not in done.stdout and 'hangs' not in done.stdout
    assert '| all | | 10 | 10 | |' in done.stdout


@pytest.mark.slow
def test_a_training_that_forgets():
    done = run('-c', FORGETFUL.format(folder=str(BENCHMARKS)))
    assert done.returncode == 1, done.stdout + done.stderr
    differs = 'the result differs in optimizer, param_schedulers, state_dict'
    assert f'newest file cut in half, training: {differs}' in done.stdout
    assert '| all | | 1 | 0 | |' in done.stdout


def test_another_folder_is_not_used(tmp_path, monkeypatch, capsys):
    script = BENCHMARKS / 'reliability.py'
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, 'argv', [str(script), '--folder', str(tmp_path)])
    with pytest.raises(SystemExit):
        runpy.run_path(str(script), run_name='__main__')
    assert f'--folder {tmp_path} exists already' in capsys.readouterr().err
