"""A process ends with the one that started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from toast_mm.engine import launcher

# A launcher: starts a process, and ends when it reads a line.
LAUNCHER = """
import subprocess, sys
child = subprocess.Popen([sys.executable, *sys.argv[1:]])
print(child.pid, flush=True)
sys.stdin.readline()
"""
# A process that saves after SIGTERM, and then goes on for some time. What it inherits goes nowhere.
PROCESS = """
import os, pathlib, runpy, signal, sys, time
module, folder, more = sys.argv[1:]
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
saved = pathlib.Path(folder, 'saved')
signal.signal(signal.SIGTERM, lambda number, frame: saved.touch())
runpy.run_path(module)['end_with_launcher'](grace=2)
pathlib.Path(folder, 'ready').touch()
while not saved.exists():
    time.sleep(0.05)
time.sleep(float(more))
pathlib.Path(folder, 'left').touch()
"""


@pytest.fixture
def running(tmp_path):
    """Start the process by a launcher; it writes into the folder of the test."""
    launchers = []

    def run(more: float) -> tuple[subprocess.Popen, int]:
        command = [sys.executable, '-c', LAUNCHER, '-c', PROCESS, launcher.__file__, tmp_path]
        started = subprocess.Popen(
            [*map(str, command), str(more)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        launchers.append(started)
        process = int(started.stdout.readline())
        wait_until(lambda: (tmp_path / 'ready').exists())
        return started, process

    yield run
    for started in launchers:
        started.communicate()


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def has_ended(process: int) -> bool:
    """Whether a process has ended; nobody may have asked for its status."""
    try:
        state = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[0]
    except FileNotFoundError:
        return True
    return state == 'Z'


@pytest.mark.parametrize(('more', 'left'), [(0, True), (60, False)])
def test_a_process_saves_and_ends_when_its_launcher_is_killed(running, tmp_path, more, left):
    """It may leave by itself; if it does not, it is ended after the grace."""
    started, process = running(more)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    killed = time.monotonic()
    wait_until(lambda: (tmp_path / 'saved').exists())
    wait_until(lambda: has_ended(process))
    assert (tmp_path / 'left').exists() is left
    if not left:
        assert time.monotonic() - killed > 1.9


def test_a_process_runs_on_with_its_launcher_and_may_end_before_it(running, tmp_path):
    started, process = running(0)
    time.sleep(2.5)
    assert not has_ended(process) and not (tmp_path / 'saved').exists()
    (tmp_path / 'saved').touch()
    wait_until(lambda: has_ended(process))
    assert (tmp_path / 'left').exists() and started.poll() is None
