"""tools/quickstart.py with fake tools: what it runs, and what it does not run again."""

from __future__ import annotations

import os
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import ROOT

JOBS = [path.stem for path in sorted((ROOT / 'configs/quickstart').glob('*.py'))]
VALUES = {job: 10 + 10 * number for number, job in enumerate(JOBS)}

# A fake tool: it makes the files that the quickstart needs, and logs the call.
FAKE_TOOLS = f"""
import json, os, sys, time
from pathlib import Path
REPO, VALUES = {str(ROOT)!r}, {VALUES!r}

def tool(name, *arguments):
    arguments = [str(argument) for argument in arguments]
    call = ' '.join([name, *arguments]).replace(REPO + '/', '')
    with open('calls', 'a') as stream:  # of several processes
        stream.write(call + '\\n')
    if os.environ.get('FAIL', 'nothing') in call:
        print('\\n'.join(map(str, range(30))))
        raise ValueError('what is wrong')
    if os.environ.get('HANG', 'nothing') in call:
        Path('hanging').touch()
        time.sleep(60)
    if name == 'dataset_converters/digits':
        Path(arguments[0]).mkdir(parents=True, exist_ok=True)
        Path(arguments[0], 'digits.json').write_text(os.environ['SEED'])
        return
    job = Path(arguments[0]).stem
    folder = Path('work_dirs', job)
    if name == 'train':
        (folder / 'last_checkpoint').write_text('/elsewhere/iter_400.pth')
    elif name == 'test':
        Path(arguments[arguments.index('--out') + 1]).write_text(
            json.dumps(dict(aAcc=99.9, mIoU=VALUES[job] + 0.16, **{{'accuracy/top1': VALUES[job]}}))
        )
    else:
        Path(arguments[arguments.index('--out') + 1]).touch()
"""
RUN = f"""
import runpy, sys
from pathlib import Path
sys.argv = ['quickstart.py']
script = runpy.run_path('{ROOT}/tools/quickstart.py')
exec({FAKE_TOOLS!r}, script['main'].__globals__)
script['main'].__globals__['origin'] = lambda: Path('data/digits/digits.json').read_text()
script['main']()
"""


class Folder:
    """A folder that the quickstart runs in, with fake tools."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def start(self, **settings: str) -> subprocess.Popen:
        (self.root / 'calls').write_text('')
        return subprocess.Popen(
            [sys.executable, '-c', RUN],
            env={**os.environ, 'PYTHONUNBUFFERED': '', 'SEED': '0', **settings},
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, **settings: str) -> subprocess.CompletedProcess:
        process = self.start(**settings)
        output, errors = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    @property
    def calls(self) -> list[str]:
        return sorted((self.root / 'calls').read_text().splitlines())


def calls_of(*jobs: str) -> list[str]:
    """The commands that a user would write for these jobs, and the one that makes the data."""
    lines = ['dataset_converters/digits data/digits']
    for job in jobs:
        config, out = f'configs/quickstart/{job}.py', f'work_dirs/{job}'
        lines += [
            f'train {config} --work-dir {out} --resume --no-validate '
            '--cfg-options first_pass_cache=True',
            f'test {config} {out}/iter_400.pth --work-dir {out} '
            f'--out {out}/partial.json --out-item metrics --overwrite',
        ]
        if job.startswith('toast-'):
            lines.append(
                f'visualization/attention {config} {out}/iter_400.pth '
                f'--out {out}/attention.png --overwrite'
            )
    return sorted(lines)


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def script() -> dict:
    return runpy.run_path(str(ROOT / 'tools/quickstart.py'))


@pytest.mark.slow
def test_everything_once_and_again_after_a_change(folder):
    mine = folder.root / 'work_dirs' / JOBS[0] / 'iter_9.pth'
    mine.parent.mkdir(parents=True)
    mine.write_text('mine')
    first = folder.run()
    assert (first.returncode, first.stderr) == (0, '')
    assert folder.calls == calls_of(*JOBS)
    rows = [re.findall(r'\d+\.\d+', line) for line in first.stdout.splitlines()]
    # By name: linear probe on cued digits, on scenes, TOAST on cued digits, on scenes.
    assert [row for row in rows if row] == [['20.2', '40.2'], ['10.0', '30.0']]
    pictures = re.findall(r'/.*\.png', first.stdout)
    assert len(pictures) == 2 and all(Path(picture).is_file() for picture in pictures)

    # A run that is not of the quickstart is kept.
    assert 'it is kept with the date added to its name' in first.stdout
    (kept,) = (folder.root / 'work_dirs').glob(f'{JOBS[0]}.*/iter_9.pth')
    assert kept.read_text() == 'mine'

    second = folder.run()
    assert folder.calls == calls_of()
    assert first.stdout.endswith(second.stdout)  # the table

    stale = folder.root / 'work_dirs' / JOBS[0] / 'iter_100.pth'
    stale.touch()
    folder.run(SEED='1')
    assert folder.calls == calls_of(*JOBS)
    assert not stale.exists()  # --resume would take it


@pytest.mark.slow
def test_a_failure_shows_the_end_of_the_log_and_is_repaired_by_the_next_call(folder):
    failed = folder.run(FAIL=f'test configs/quickstart/{JOBS[1]}')
    assert failed.returncode == 1
    heading, *log = failed.stderr.splitlines()
    path = folder.root / 'work_dirs' / JOBS[1] / 'quickstart.log'
    assert heading == f'quickstart: linear probe on scenes failed; the end of {path}:'
    assert len(log) == 15 and log[-1] == 'ValueError: what is wrong'

    assert folder.run().returncode == 0
    assert {*calls_of(JOBS[1])} <= {*folder.calls}


@pytest.mark.slow
def test_an_interrupted_run_continues(folder):
    process = folder.start(HANG=f'train configs/quickstart/{JOBS[1]}')
    while not (folder.root / 'hanging').exists():
        assert process.poll() is None
        time.sleep(0.05)
    half_trained = folder.root / 'work_dirs' / JOBS[1] / 'iter_100.pth'
    half_trained.touch()
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert 'interrupted; call it again to continue' in errors
    assert 'failed' not in output + errors

    assert folder.run().returncode == 0
    assert {*calls_of(JOBS[1])} <= {*folder.calls}
    assert half_trained.exists()


def test_origin_changes_with_everything_a_run_depends_on(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('data/digits/digits.json', 'configs/job.py', 'toast_mm/weights/base.safetensors'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b'1')
    origin = script['origin']
    monkeypatch.setitem(origin.__globals__, 'ROOT', tmp_path)
    seen = {origin()}
    (tmp_path / 'toast_mm/__pycache__').mkdir()
    (tmp_path / 'toast_mm/__pycache__/new.cpython-311.pyc').write_bytes(b'0')
    assert origin() in seen
    for name in ('data/digits/digits.json', 'configs/job.py', 'toast_mm/weights/base.safetensors'):
        (tmp_path / name).write_bytes(b'2')
        assert origin() not in seen
        seen.add(origin())
    (tmp_path / 'toast_mm/new.py').write_text('pass')
    assert origin() not in seen


def test_a_terminal_shows_the_counters(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    log = tmp_path / 'work_dirs' / JOBS[1] / 'quickstart.log'
    log.parent.mkdir(parents=True)
    line = '11/25 23:43:45 - mmengine - INFO - Iter(train) [{}/250]  lr: 1e-2  eta: 0:00:{}  time'
    log.write_text('\n'.join([line.format(' 10', 40), line.format(' 20', 30), 'loss nan']))
    script['show_counters']([JOBS[1]])
    assert capsys.readouterr().out == ''
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    script['show_counters']([JOBS[1]])
    assert 'linear probe on scenes 20/250, 0:00:30 left' in capsys.readouterr().out
