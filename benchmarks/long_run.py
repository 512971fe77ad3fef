"""Memory, file handles and threads of a long training with validation and checkpoints.

A small training validates and saves after every epoch of 60 iterations; a process that loads data
is started for every epoch. Every 100 iterations the resident memory, the open file handles and the
threads of the training are read. Prints the slope of the memory per 1000 iterations with its
standard error (least squares, without the first tenth of the run), and the ranges of handles and
threads. The exit status is 1 if handles or threads grow: if their minimum in the last third is
above their maximum in the first third.

    python benchmarks/long_run.py --iterations 10000
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.hooks import Hook
from small_jobs import write_config, write_images

from toast_mm.engine.config import read_config
from toast_mm.engine.runner import build_runner

EPOCH = 60


class Resources(Hook):
    """Samples of ``(iteration, memory in KiB, handles, threads)`` of this process."""

    priority = 'LOWEST'

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.samples: list[tuple[int, float, int, int]] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        iteration = runner.iter + 1
        if iteration % self.interval == 0:
            pages = int(Path('/proc/self/statm').read_text().split()[1])
            memory = pages * resource.getpagesize() / 1024
            handles, threads = (len(os.listdir(f'/proc/self/{what}')) for what in ('fd', 'task'))
            self.samples.append((iteration, memory, handles, threads))


def job(folder: Path, iterations: int) -> Config:
    """Config of the training."""
    write_images(folder / 'images')
    cfg = read_config(str(write_config('training', folder / 'images', folder)))
    cfg.work_dir = str(folder / 'work')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.num_workers = 1
    data = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=EPOCH // 6, dataset=data)
    cfg.train_cfg.max_epochs = -(-iterations // EPOCH)
    cfg.param_scheduler.T_max = cfg.train_cfg.max_epochs * EPOCH
    cfg.default_hooks.logger.interval = 50
    cfg.log_level = 'WARNING'
    return cfg


def slope(iterations: np.ndarray, memory: np.ndarray) -> tuple[float, float]:
    """Slope of the memory per 1000 iterations, and its standard error."""
    (value, _), covariance = np.polyfit(iterations / 1000, memory, 1, cov=True)
    return float(value), float(np.sqrt(covariance[0, 0]))


def grows(values: np.ndarray) -> bool:
    """Whether the last third of the values is above the first third."""
    third = max(1, len(values) // 3)
    return bool(values[-third:].min() > values[:third].max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--iterations', type=int, default=10_000)
    parser.add_argument('--interval', type=int, default=100, help='iterations between samples')
    args = parser.parse_args()
    if args.interval < 1 or args.iterations < 10 * args.interval:
        parser.error('--iterations must be at least ten times --interval')
    hook = Resources(args.interval)
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        runner = build_runner(job(Path(folder), args.iterations))
        runner.register_hook(hook)
        runner.train()
    samples = np.array(hook.samples)
    kept = samples[samples[:, 0] > args.iterations / 10]
    value, error = slope(kept[:, 0], kept[:, 1])
    first, last = samples[0, 1] / 1024, samples[-1, 1] / 1024
    print(f'{runner.iter} iterations, {runner.epoch} epochs, {time.monotonic() - start:.0f} s')
    print(f'memory: {first:.1f} to {last:.1f} MiB, {value:+.1f} ± {error:.1f} KiB per 1000')
    growing = []
    for name, values in zip(('handles', 'threads'), samples[:, 2:].T, strict=True):
        print(f'{name}: {values.min():.0f} to {values.max():.0f}')
        growing += [name] if grows(values) else []
    if growing:
        sys.exit(f'growing: {", ".join(growing)}')


if __name__ == '__main__':
    main()
