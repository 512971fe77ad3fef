"""tools/quickstart.sh: what it calls, and what it does not call again. The tools are faked."""

import os
import pty
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from commands import ROOT

# Does for each tool what quickstart.sh relies on, and notes the call.
FAKE_PYTHON = """#!/usr/bin/env bash
echo "$*" >> calls
[[ "$*" != *"${FAIL:-nothing}"* ]] || { seq 1 30; echo 'ValueError: what is wrong'; exit 1; }
folder=work_dirs/$(basename "$2" .py)
case $1 in
  tools/dataset_converters/digits.py)
    mkdir -p "$2"; echo "$SEED" > "$2/digits.json" ;;
  tools/train.py)
    echo 'INFO - Epoch(train)  [1][ 50/125]  lr: 1e-2  eta: 0:00:20  loss: 2.3'
    if [[ "$*" == *"${HANG:-nothing}"* ]]; then touch hanging; exec sleep 60; fi
    echo "/elsewhere/iter_400.pth" > "$folder/last_checkpoint" ;;
  tools/test.py)
    while [[ $1 != --out ]]; do shift; done
    value=$(( $(echo "$folder" | cksum | cut -c1-2) ))
    echo "{\\"aAcc\\": 99.9, \\"mIoU\\": $value.16, \\"accuracy/top1\\": $value.26}" > "$2" ;;
  tools/visualization/attention.py)
    while [[ $1 != --out ]]; do shift; done
    touch "$2" ;;
esac
"""


class Checkout:
    """A copy of the script among fake tools."""

    def __init__(self, root: Path):
        self.root = root
        for folder in ('tools', 'configs/quickstart', 'toast_mm/weights', 'requirements'):
            (root / folder).mkdir(parents=True)
        (root / 'configs/quickstart/job.py').write_text('lr = 1')
        (root / 'toast_mm/weights/base.safetensors').write_bytes(b'\0\1')
        shutil.copy(ROOT / 'tools/quickstart.sh', root / 'tools')
        (root / 'tools/setup_env.sh').write_text('echo "setup_env.sh" >> calls')
        python = root / '.venv/bin/python'
        python.parent.mkdir(parents=True)
        python.write_text(FAKE_PYTHON)
        python.chmod(0o755)

    def start(self, **settings) -> subprocess.Popen:
        (self.root / 'calls').write_text('')
        options = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) | {
            key: settings.pop(key) for key in ('stdout', 'stderr') if key in settings
        }
        return subprocess.Popen(
            ['bash', str(self.root / 'tools/quickstart.sh')],
            env={'PATH': os.environ['PATH'], 'SEED': '0', **settings},
            cwd='/',
            start_new_session=True,
            # A shell that was started in the background ignores Ctrl-C, and so would this one.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            **options,
        )

    def run(self, **settings: str) -> subprocess.CompletedProcess:
        process = self.start(**settings)
        output, errors = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    @property
    def calls(self) -> list[tuple[str, str]]:
        """Tool and job of every call."""
        lines = [line.split() for line in (self.root / 'calls').read_text().splitlines()]
        return [(Path(tool).stem, Path(*rest[:1]).stem) for tool, *rest in lines]


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path / 'a checkout')


JOBS = [
    path.stem
    for pattern in ('linear-*scenes*', 'toast-*scenes*', 'linear-*cued*', 'toast-*cued*')
    for path in (ROOT / 'configs/quickstart').glob(f'{pattern}.py')
]
BEGINNING = [('setup_env', ''), ('digits', 'digits')]
TRAINING = [(tool, job) for job in JOBS for tool in ('train', 'test')]
PICTURES = [('attention', job) for job in JOBS if job.startswith('toast-')]


def row(output: str, start: str) -> list[str]:
    (line,) = (line for line in output.splitlines() if line.startswith(start))
    return re.findall(r'\d+\.\d+', line)


def value(job: str, decimals: str) -> str:
    text = subprocess.run(
        ['cksum'], input=f'work_dirs/{job}\n', capture_output=True, text=True
    ).stdout
    return f'{text[:2]}.{decimals}'


def test_everything_once(checkout):
    first = checkout.run()
    assert (first.returncode, first.stderr) == (0, '')
    assert checkout.calls == [*BEGINNING, *TRAINING, *PICTURES]
    assert row(first.stdout, 'scenes') == [value(job, '1') for job in JOBS[:2]]
    assert row(first.stdout, 'digit on') == [value(job, '2') for job in JOBS[2:]]
    pictures = re.findall(r'/.*\.png', first.stdout)
    assert len(pictures) == 2 and all(Path(picture).is_file() for picture in pictures)

    second = checkout.run()
    assert checkout.calls == BEGINNING
    assert first.stdout.endswith(second.stdout)  # the table


def test_tools_are_told_what_they_need(checkout):
    checkout.run()
    lines = (checkout.root / 'calls').read_text().splitlines()
    job = JOBS[1]
    config, folder = f'configs/quickstart/{job}.py', f'work_dirs/{job}'
    assert f'tools/train.py {config} --work-dir {folder} --resume --no-validate' in lines
    assert (
        f'tools/test.py {config} {folder}/iter_400.pth --work-dir {folder} '
        f'--out {folder}/partial.json --out-item metrics' in lines
    )
    assert (
        f'tools/visualization/attention.py {config} {folder}/iter_400.pth '
        f'--out {folder}/attention.png' in lines
    )


@pytest.mark.parametrize(
    'change',
    [
        lambda root: (root / 'configs/quickstart/job.py').write_text('lr = 2'),
        lambda root: (root / 'toast_mm/weights/base.safetensors').write_bytes(b'\0\2'),
        lambda root: (root / 'toast_mm/new.py').write_text('pass'),
    ],
    ids=['config', 'weights', 'code'],
)
def test_a_change_begins_anew(checkout, change):
    checkout.run()
    stale = checkout.root / 'work_dirs' / JOBS[0] / 'iter_100.pth'
    stale.touch()
    change(checkout.root)
    checkout.run()
    assert checkout.calls == [*BEGINNING, *TRAINING, *PICTURES]
    assert not stale.exists()  # --resume would take it


def test_other_data_begin_anew(checkout):
    checkout.run()
    checkout.run(SEED='1')
    assert checkout.calls == [*BEGINNING, *TRAINING, *PICTURES]


def test_byte_code_is_no_change(checkout):
    checkout.run()
    (checkout.root / 'toast_mm/__pycache__').mkdir()
    (checkout.root / 'toast_mm/__pycache__/new.cpython-311.pyc').write_bytes(b'\0')
    checkout.run()
    assert checkout.calls == BEGINNING


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_a_failure_shows_the_end_of_the_log_and_is_repaired_by_the_next_call(checkout, tool):
    failed = checkout.run(FAIL=f'{tool}.py configs/quickstart/{JOBS[1]}')
    assert failed.returncode == 1
    heading, *log = failed.stderr.splitlines()
    path = checkout.root / 'work_dirs' / JOBS[1] / f'{tool}.log'
    assert heading.endswith(f'ing TOAST on scenes failed; the end of {path}:')
    assert len(log) == 15 and log[-1] == 'ValueError: what is wrong'
    assert path.read_text().splitlines()[:2] == ['1', '2']

    assert checkout.run().returncode == 0
    assert checkout.calls == [*BEGINNING, *TRAINING[2:], *PICTURES]


def test_an_interrupted_run_goes_on(checkout):
    process = checkout.start(HANG=f'train.py configs/quickstart/{JOBS[1]}')
    while not (checkout.root / 'hanging').exists():
        assert process.poll() is None
        time.sleep(0.02)
    half_trained = checkout.root / 'work_dirs' / JOBS[1] / 'iter_100.pth'
    half_trained.touch()
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.strip() == 'quickstart.sh: interrupted; called again, it goes on from here'
    assert 'failed' not in output

    assert checkout.run().returncode == 0
    assert checkout.calls == [*BEGINNING, *TRAINING[2:], *PICTURES]
    assert half_trained.exists()


def test_runs_of_others_are_kept(checkout):
    mine = checkout.root / 'work_dirs' / JOBS[0] / 'iter_9.pth'
    mine.parent.mkdir(parents=True)
    mine.write_text('mine')
    result = checkout.run()
    assert 'it is kept under its name and the date' in result.stdout
    (kept,) = (checkout.root / 'work_dirs').glob(f'{JOBS[0]}.*/iter_9.pth')
    assert kept.read_text() == 'mine'
    assert checkout.calls == [*BEGINNING, *TRAINING, *PICTURES]


def test_a_terminal_shows_the_counter(checkout):
    ours, theirs = pty.openpty()
    process = checkout.start(stdout=theirs)
    os.close(theirs)
    shown = b''
    while True:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # how a terminal ends
            break
    process.communicate(timeout=120)
    os.close(ours)
    assert b'\r\x1b[Ktuning TOAST on scenes [1][ 50/125], 0:00:20 left' in shown
    assert process.returncode == 0
