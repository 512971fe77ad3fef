"""benchmarks/bad_inputs.py: bad inputs end in sentences; its judge sees those that do not."""

import functools
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from judging import FAULT, RIGHT, SENTENCE, Case, WrongResultError, judge

from toast_mm.checkpoint import CheckpointError

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
# Images that cannot be decoded end in an error without a name; masks are read as zeros.
PLANTED = """
import sys
sys.path.insert(0, {folder!r})
import bad_inputs
import numpy as np
from toast_mm.datasets.loading import LoadAnnotations, LoadImageFromFile

def cryptic(self, content, path):
    raise KeyError('img')

def silent(self, results):
    results['gt_seg_map'] = np.zeros((16, 16), np.uint8)
    results['seg_fields'].append('gt_seg_map')

LoadImageFromFile.decode = cryptic if {family!r} == 'images' else LoadImageFromFile.decode
LoadAnnotations._load_seg_map = silent
sys.argv = ['bad_inputs.py', '--number', '3', '--families', {family!r}]
bad_inputs.main()
"""


def run(*command):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True)


@pytest.mark.slow
def test_fifty():
    done = run(BENCHMARKS / 'bad_inputs.py', '--number', '50', '--seed', '0')
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'fault: ' not in done.stdout
    *_, last = done.stdout.strip().splitlines()
    number, sentences, rights, faults = map(int, last.split('|')[3:7])
    assert last.startswith('| all | all |') and (number, faults) == (50, 0)
    assert sentences > 30 and rights > 5 and sentences + rights == 50


@pytest.mark.slow
@pytest.mark.parametrize(
    'family, fault',
    [
        ('images', 'images, empty: names none of 00.png: ConfigError: LoadImageFromFile with'),
        ('masks', 'masks, truncated: trained on a mask that has no labels'),
    ],
)
def test_planted_faults(family, fault):
    done = run('-c', PLANTED.format(folder=str(BENCHMARKS), family=family))
    assert done.returncode == 1, done.stdout + done.stderr
    assert f'fault: {fault}' in done.stdout


def end_by(error):
    raise error


def wrong():
    raise WrongResultError('other scores')


@pytest.mark.parametrize(
    'run, verdict, text',
    [
        (lambda: None, RIGHT, ''),
        (lambda: 'a.png cannot be read', SENTENCE, 'a.png cannot be read'),
        (lambda: 'an image cannot be read', FAULT, 'names none of a.png'),
        (wrong, FAULT, 'other scores'),
        (
            functools.partial(end_by, CheckpointError('a.png is no file')),
            SENTENCE,
            'a.png is no file',
        ),
        (functools.partial(end_by, SystemExit('a.png is no file')), SENTENCE, 'a.png is no file'),
        (functools.partial(end_by, FileNotFoundError(2, 'x', 'a.png')), SENTENCE, 'a.png'),
        (functools.partial(end_by, SystemExit(1)), FAULT, 'it ends without a word'),
        (functools.partial(end_by, ValueError('')), FAULT, 'it ends without a word'),
        (functools.partial(end_by, ValueError('no image')), FAULT, 'names none of a.png'),
        (functools.partial(end_by, ValueError('a.png\nis no file')), FAULT, 'several lines'),
        (functools.partial(end_by, KeyError('a.png')), FAULT, 'KeyError is no error of ours'),
        (functools.partial(end_by, AssertionError('a.png')), FAULT, 'AssertionError is no'),
        (functools.partial(end_by, CheckpointError("KeyError: 'a.png'")), FAULT, 'low-level'),
        (functools.partial(end_by, ValueError("'int' object a.png")), FAULT, 'low-level'),
    ],
)
def test_verdicts(run, verdict, text):
    found, said = judge(Case('images', 'broken', ('a.png',), run))
    assert found == verdict
    assert text in said


def test_the_last_line_of_a_usage_error_is_its_sentence():
    def usage_error():
        print('usage: tool.py a.png\ntool.py: error: no a.png', file=sys.stderr)
        sys.exit(2)

    assert judge(Case('', '', ('a.png',), usage_error)) == (SENTENCE, 'tool.py: error: no a.png')
    assert judge(Case('', '', ('b.png',), usage_error))[0] == FAULT


def test_a_valid_input_must_not_be_refused():
    refuse = functools.partial(end_by, ValueError('a.png is odd'))
    verdict, text = judge(Case('images', 'palette', ('a.png',), refuse, must_work=True))
    assert verdict == FAULT and text.startswith('refused, but it is valid')


def test_a_number_below_one(monkeypatch, capsys):
    script = BENCHMARKS / 'bad_inputs.py'
    monkeypatch.setattr(sys, 'argv', [str(script), '--number', '0'])
    with pytest.raises(SystemExit):
        runpy.run_path(str(script), run_name='__main__')
    assert '--number 0 must be at least 1' in capsys.readouterr().err
