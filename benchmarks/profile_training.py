"""Shares of the time of a training: waiting for data, operators, and the rest, which is Python.

With ``--runs``, the overhead of a run in a sweep instead: what it takes outside the model's
``train_step`` and ``val_step``, in seconds of the clock and of the CPU. Another checkout of the
repository, such as of the commit before a change, can take turns with this one.

Otherwise runs some iterations of a config's training for their time, and as many again under
PyTorch's profiler for the share of operators. The profiler slows down the rest. Prints a table in
Markdown.

    python benchmarks/profile_training.py configs/cub25/toast-last_vit-1m_1xb32-20e_cub25-64x64.py
    python benchmarks/profile_training.py CONFIG --runs 3 --before ../checkout
"""

from __future__ import annotations

import argparse
import os.path as osp
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.hooks import Hook
from short_runs import KINDS, Trainer, overheads, ratio
from small_jobs import ROOT
from torch.profiler import ProfilerActivity, profile

from toast_mm.command_line import argument_parser, load_config
from toast_mm.engine.config import ConfigError
from toast_mm.engine.runner import build_runner


class Measured(Exception):
    """Enough iterations have run."""


class Profile(Hook):
    """Measure some iterations of a training and end it.

    Args:
        first: Iterations before the measurement, to warm up memory and workers.
        number: Iterations to measure, and then to profile.
    """

    priority = 'LOWEST'

    def __init__(self, first: int, number: int) -> None:
        self.first, self.number = first, number
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self.profiler = profile(activities=activities)

    def after_train_iter(self, runner: Any, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        done = runner.iter + 1 - self.first
        if done in (0, self.number) and torch.cuda.is_available():
            torch.cuda.synchronize()
        if done == 0:
            self.start = time.perf_counter()
        elif done == self.number:
            self.seconds = time.perf_counter() - self.start
            times, _ = runner.message_hub.get_scalar('train/data_time').data
            self.waiting = float(sum(times[-self.number :]))
            self.profiler.start()
        elif done == 2 * self.number:
            self.profiler.stop()
            raise Measured

    @property
    def operators(self) -> float:
        """Seconds in operators; on a GPU, in kernels."""
        events = self.profiler.key_averages()
        if torch.cuda.is_available():
            return sum(event.self_device_time_total for event in events) / 1e6
        named = [event for event in events if event.key.startswith('aten::')]
        return sum(event.self_cpu_time_total for event in named) / 1e6


def print_overheads(args: argparse.Namespace) -> None:
    """Print the overhead of a run in a sweep, and its ratio to that of another checkout."""
    sources = {'this checkout': ROOT}
    if args.before is not None:
        sources['before'] = args.before.resolve()
    with TemporaryDirectory() as folder:
        trainers = {
            name: Trainer(
                'sweep', Path(args.config), Path(folder) / name, dict(args.cfg_options), source
            )
            for name, source in sources.items()
        }
        found = overheads(trainers, args.runs)
    print(f'| overhead per run, seconds of the | {" | ".join(sources)} | ratio |')
    print(f'|---|{"---:|" * (len(sources) + 1)}')
    for kind in KINDS:
        values = [found[name][kind] for name in sources]
        cells = [f'{median(each):.1f}' for each in values]
        cells.append(f'{ratio(values[0], values[-1]):.2f}' if len(values) > 1 else '')
        print(f'| {kind} | {" | ".join(cells)} |')


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument('--first', type=int, default=5, help='iterations to warm up; default: 5')
    parser.add_argument('--number', type=int, default=20, help='iterations; default: 20')
    parser.add_argument('--runs', type=int, help='measure the overhead of so many runs of a sweep')
    parser.add_argument('--before', type=Path, help='with --runs: another checkout to compare with')
    args: argparse.Namespace = parser.parse_args()
    if args.before is not None and not (args.before / 'toast_mm').is_dir():
        parser.error(f'--before {args.before} is no checkout of this repository')
    if args.runs is not None:
        if args.runs < 1:
            parser.error(f'--runs {args.runs} must be at least 1')
        print_overheads(args)
        return
    if args.before is not None:
        parser.error('--before needs --runs')
    measured = Profile(args.first, args.number)
    with TemporaryDirectory() as folder:
        args.work_dir = folder
        try:
            cfg = load_config(args)
        except ConfigError as error:
            raise SystemExit(str(error)) from error
        cfg.default_hooks.checkpoint = None  # mmengine formats the whole config for each
        runner = build_runner(cfg)
        runner.register_hook(measured)
        try:
            runner.train()
        except Measured:
            pass
        else:
            raise SystemExit(
                f'the training has fewer than {args.first + 2 * args.number} iterations'
            )
    rest = measured.seconds - measured.waiting - measured.operators
    shares = [part / measured.seconds for part in (measured.waiting, measured.operators, rest)]
    cells = [f'{1000 * measured.seconds / args.number:.0f}', *(f'{share:.1%}' for share in shares)]
    print('| job | ms per iteration | waiting for data | operators | Python and the rest |')
    print('|---|---|---|---|---|')
    print(f'| {osp.splitext(osp.basename(args.config))[0]} | {" | ".join(cells)} |')


if __name__ == '__main__':
    main()
