"""benchmarks/reliability.py: killed jobs end as undisturbed ones, and it sees one that does not."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import reliability

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
    assert '| SIGTERM, one of two processes | | | | 1 of 1 |' in done.stdout
    assert '| all | 3 of 3 | 2 of 2 | 3 of 3 | 2 of 2 |' in done.stdout


@pytest.mark.slow
def test_a_training_that_forgets():
    done = run('-c', FORGETFUL.format(folder=str(BENCHMARKS)))
    assert done.returncode == 1, done.stdout + done.stderr
    differs = 'the result differs in optimizer, param_schedulers, state_dict'
    assert f'newest file cut in half, training: {differs}' in done.stdout
    assert '| all | | 1 | 0 | |' in done.stdout
    assert '| all | 0 of 1 | | | |' in done.stdout


def test_the_table_of_victims():
    def table(number, different=0):
        drawn = enumerate(reliability.draw(number), 1)
        kills = [reliability.Kill(*of, 'killed', n != different, 1.0) for n, of in drawn]
        return reliability.table_of_victims(kills)

    lines = table(14, different=6).splitlines()
    assert lines[0] == '| kind | training | sweep | cache | two processes |'
    assert '| Ctrl-C, random moment | | | 0 of 1 | |' in lines
    assert '| SIGKILL, file event | 1 of 1 | 1 of 1 | | |' in lines
    assert lines[-1] == '| all | 4 of 4 | 4 of 4 | 3 of 4 | 2 of 2 |'
    assert table(100) in (BENCHMARKS / 'RELIABILITY.md').read_text()


def test_another_folder_is_not_used(tmp_path, monkeypatch, capsys):
    script = BENCHMARKS / 'reliability.py'
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, 'argv', [str(script), '--folder', str(tmp_path)])
    with pytest.raises(SystemExit):
        runpy.run_path(str(script), run_name='__main__')
    assert f'--folder {tmp_path} exists already' in capsys.readouterr().err
