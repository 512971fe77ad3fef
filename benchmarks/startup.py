"""What a short training pays besides its iterations, as ratios to mmengine's own Runner.

A steered ViT on 24 generated images is trained by ``tools/train.py``, and the same ViT without a
top-down module by mmpretrain's ``train.py``. Both run in turn. The table has medians: seconds of a
new process until the first iteration has ended; seconds for formatting the config, and for looking
at the machine; seconds of a checkpoint; and seconds of the whole process, without its iterations.
The last row is the overhead of a run of 20 epochs on 250 images, one of many in a process, in
seconds of the CPU: see ``short_runs.py``.
The exit status with ``--check`` is 1 if a ratio is above its bound.

    python benchmarks/startup.py --check
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from short_runs import Trainer, overheads, ratio
from small_jobs import ROOT, write_config, write_images

# Largest ratios to mmengine that we accept.
BOUNDS = {
    'first iteration': 1.3,
    'config formatting': 1.0,
    'environment': 1.0,
    'checkpoint': 1.5,
    'whole run': 1.3,
}
SWEPT, SWEPT_BOUND = 'run in a sweep', 1.2
# Settings of that run.
_SHORT = {
    'train_cfg.max_epochs': 20,
    'train_cfg.val_interval': 20,
    'train_dataloader.batch_size': 32,
    'train_dataloader.num_workers': 1,
    'train_dataloader.persistent_workers': True,
    'val_dataloader.batch_size': 64,
    'val_dataloader.num_workers': 1,
}


def age() -> float:
    """Seconds since this process started."""
    ticks = int(Path('/proc/self/stat').read_text().rpartition(')')[2].split()[19])
    uptime = float(Path('/proc/uptime').read_text().split()[0])
    return uptime - ticks / os.sysconf('SC_CLK_TCK')


class Times:
    """Seconds that functions take, by name."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)

    def measure(self, owner: Any, name: str, what: str) -> None:
        """Measure all calls of a function."""
        original = getattr(owner, name)
        function: Callable = original.fget if isinstance(original, property) else original

        def measured(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[what].append(time.perf_counter() - start)
                if what == 'iteration' and len(self.seconds[what]) == 1:
                    self.seconds['first iteration'].append(age())

        setattr(owner, name, property(measured) if isinstance(original, property) else measured)


def child(script: str, config: str, out: str) -> None:
    """Train by a script, and write what it took."""
    times = Times()
    atexit.register(lambda: Path(out).write_text(json.dumps(times.seconds)))
    from mmengine.config import Config
    from mmengine.runner import EpochBasedTrainLoop, Runner, runner

    times.measure(Config, 'pretty_text', 'config formatting')
    times.measure(runner, 'collect_env', 'environment')
    times.measure(Runner, 'save_checkpoint', 'checkpoint')
    times.measure(EpochBasedTrainLoop, 'run_iter', 'iteration')
    sys.argv = [script, config, '--work-dir', f'{out}.work']
    sys.path.insert(0, os.path.dirname(script))
    runpy.run_path(script, run_name='__main__')


def plain(job: Path) -> Path:
    """The same job with classes of mmengine and mmpretrain alone."""
    from mmengine.config import Config

    cfg = Config.fromfile(job)
    backbone = cfg.model.backbone
    backbone.type = 'VisionTransformer'
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.persistent_workers = False  # mmpretrain's train.py would say True
        steps = loader.dataset.pipeline
        loader.dataset.pipeline = [s for s in steps if s.type != 'toast_mm.SeedAugmentation']
    del cfg.optim_wrapper.constructor
    for key in ('custom_hooks', 'custom_imports', 'runner_type'):
        cfg.pop(key, None)
    path = job.with_name('plain.py')
    path.write_text(cfg.pretty_text.replace("'toast_mm.", "'"))
    return path


def run(script: Path, config: Path, out: Path) -> dict[str, float]:
    """Train in a new process; seconds by name."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', __file__, '--child', script, config, out],
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    found = {name: sum(values) for name, values in json.loads(out.read_text()).items()}
    number = len(json.loads(out.read_text())['checkpoint'])
    found['checkpoint'] /= number
    found['whole run'] = seconds - found.pop('iteration')
    return found


def swept(folder: Path, runs: int) -> dict[str, list[float]]:
    """Seconds of the CPU that runs in a sweep, and those of mmengine's Runner, pay for overhead."""
    write_images(folder / 'images', train=250, val=100, size=64)
    job = write_config('training', folder / 'images', folder)
    sides = {'toast_mm': ('sweep', job), 'mmengine': ('mmengine', plain(job))}
    trainers = {
        name: Trainer(kind, config, folder / name, _SHORT) for name, (kind, config) in sides.items()
    }
    return {name: found['CPU'] for name, found in overheads(trainers, runs).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--runs', type=int, default=5, help='of each kind; default: 5')
    parser.add_argument('--check', action='store_true', help='compare with the bounds')
    parser.add_argument('--child', nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return
    if args.runs < 1:
        parser.error('--runs must be at least 1')
    import mmpretrain

    stock = Path(mmpretrain.__file__).parent / '.mim/tools/train.py'
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_images(folder / 'images')
        ours = write_config('training', folder / 'images', folder)
        jobs = {'toast_mm': (ROOT / 'tools/train.py', ours), 'mmengine': (stock, plain(ours))}
        for number in range(args.runs + 1):
            for name, (script, config) in jobs.items():
                seconds = run(script, config, folder / f'{name}_{number}')
                if number:  # the first fills the caches of the disk
                    for what, value in seconds.items():
                        found[name, what].append(value)
    print('| seconds | toast_mm | mmengine | ratio | bound |\n|---|---:|---:|---:|---:|')
    above = []
    for what, bound in BOUNDS.items():
        one, other = (statistics.median(found[name, what]) for name in ('toast_mm', 'mmengine'))
        print(f'| {what} | {one:.3f} | {other:.3f} | {one / other:.2f} | {bound:.1f} |')
        above += [what] if one / other > bound else []
    with tempfile.TemporaryDirectory() as temporary:
        short = swept(Path(temporary), args.runs)
    one, other = (statistics.median(short[name]) for name in ('toast_mm', 'mmengine'))
    share = ratio(short['toast_mm'], short['mmengine'])
    print(f'| {SWEPT} | {one:.3f} | {other:.3f} | {share:.2f} | {SWEPT_BOUND:.1f} |')
    above += [SWEPT] if share > SWEPT_BOUND else []
    if args.check and above:
        sys.exit(f'above the bound: {", ".join(above)}')


if __name__ == '__main__':
    main()
