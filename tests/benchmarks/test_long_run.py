"""benchmarks/long_run.py: handles and threads of a training do not grow, and it sees if they do."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
LEAKING = """
import os, sys, threading
sys.path.insert(0, {folder!r})
import long_run
plain = long_run.Resources.after_train_iter
def leaking(self, runner, *args, **kwargs):
    if runner.iter % 30 == 0:
        os.open(os.devnull, os.O_RDONLY)
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    plain(self, runner, *args, **kwargs)
long_run.Resources.after_train_iter = leaking
sys.argv = ['long_run.py', '--iterations', '120', '--interval', '12']
long_run.main()
"""


def run(*command):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True)


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return runpy.run_path(str(BENCHMARKS / 'long_run.py'))


def test_slope_and_its_error(script):
    """By the textbook: residual variance over n - 2, divided by the spread of the iterations."""
    x = np.arange(100, 2100, 100)
    y = 5000 + 3 * x / 1000 + np.random.default_rng(0).normal(size=20)
    spread = ((x - x.mean()) ** 2).sum()
    expected = ((x - x.mean()) * (y - y.mean())).sum() / spread
    residuals = y - y.mean() - expected * (x - x.mean())
    error = np.sqrt((residuals**2).sum() / 18 / spread)
    assert script['slope'](x, y) == pytest.approx((expected * 1000, error * 1000))


@pytest.mark.parametrize(
    ('values', 'grows'),
    [([5, 6] * 9, False), ([5] * 9, False), (range(9), True), ([9, 8, 7], False)],
)
def test_growth(script, values, grows):
    assert script['grows'](np.array(values)) is grows


@pytest.mark.slow
def test_handles_and_threads_do_not_grow():
    done = run(BENCHMARKS / 'long_run.py', '--iterations', '300', '--interval', '30')
    assert done.returncode == 0, done.stdout + done.stderr
    assert '300 iterations, 5 epochs' in done.stdout
    assert re.search(r'[+-][\d.]+ ± [\d.]+ KiB per 1000', done.stdout)
    assert re.search(r'^handles: \d+ to \d+$', done.stdout, re.M)


@pytest.mark.slow
def test_growing_handles_and_threads():
    done = run('-c', LEAKING.format(folder=str(BENCHMARKS)))
    assert done.returncode == 1 and 'growing: handles, threads' in done.stderr, done.stdout
