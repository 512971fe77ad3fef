"""Shared code of the command lines that run a protocol. It raises errors; the tools exit."""

from __future__ import annotations

import argparse
import itertools
import os.path as osp
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mmengine.config import Config

from toast_mm.engine.config import ConfigError, ConfigOptions, apply_options, read_config
from toast_mm.files import WriteError, write_atomically
from toast_mm.registry import type_name

from .held_out import check_held_out
from .protocol import Outcome, Task, run_protocol


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for the folder of the runs and for how many run at a time."""
    parser.add_argument('--out-dir', help='folder of the runs; work_dirs/<config name>')
    parser.add_argument('--gpus', nargs='+', default=[], help='GPUs to run on')
    parser.add_argument(
        '--workers', type=int, help='runs at a time; default: one per GPU, or one; all, as jobs'
    )
    parser.add_argument(
        '--executor',
        choices=['local', 'submitit'],
        default='local',
        help='where runs are: on this machine (default), or each a job of a cluster',
    )
    parser.add_argument('--partition', help='partition of Slurm for jobs')
    parser.add_argument(
        '--job-options',
        nargs='+',
        action=ConfigOptions,
        default={},
        help="arguments of submitit's executor: gpus_per_node=1 timeout_min=240",
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, default={}, help='settings of all runs'
    )


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and apply ``--cfg-options``; it must have a ``search``.

    Raises:
        ConfigError: There is no such config, or its ``search`` is not valid.
    """
    cfg = read_config(args.config)
    apply_options(cfg, args.cfg_options)
    search = cfg.get('search') or {}
    if not isinstance(search, dict):
        raise ConfigError(
            f'search={search!r} must be dict(lr=[...], weight_decay=[...], seeds=[...])'
        )
    missing = [key for key in ('lr', 'weight_decay', 'seeds') if key not in search]
    if missing:
        raise ConfigError(
            f'{args.config} has no search=dict(lr=[...], weight_decay=[...], seeds=[...]): '
            f'{", ".join(missing)} missing'
        )
    for key in ('lr', 'weight_decay', 'seeds'):
        values = cfg.search[key]
        if not isinstance(values, list) or not values or len(set(values)) < len(values):
            raise ConfigError(f'search.{key}={values} must be a list of different values: [...]')
        kind, word = (int, 'integers') if key == 'seeds' else (int | float, 'numbers')
        if any(isinstance(value, bool) or not isinstance(value, kind) for value in values):
            raise ConfigError(f'search.{key}={values} must be a list of {word}')
        if min(values) < 0:
            raise ConfigError(f'search.{key}={values} must not be negative')
    if any(type_name(hook) == 'BestLayerHook' for hook in cfg.get('custom_hooks', [])):
        raise ConfigError(
            f'{args.config}: BestLayerHook would choose a layer on the test data, which must only '
            "measure results; use predict='ensemble', or one layer"
        )
    return cfg


def grid(search: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Optimizer settings to choose from, the lowest learning rate first."""
    return [
        {'optim_wrapper.optimizer.lr': lr, 'optim_wrapper.optimizer.weight_decay': decay}
        for lr, decay in itertools.product(sorted(search['lr']), search['weight_decay'])
    ]


def run_and_report(
    tasks: Iterable[Task],
    search: Mapping[str, Any],
    table: Callable[[Mapping[str, Outcome]], str],
    args: argparse.Namespace,
) -> None:
    """Run the protocol, write ``table.md`` and print it.

    ``search`` holds the ``seeds``, and the ``metric`` if it is not the accuracy.

    Raises:
        ConfigError: The search uses test or training images to choose, or an argument is not valid.
        WriteError: The table cannot be written.
    """
    name = osp.splitext(osp.basename(args.config))[0]
    out_dir = args.out_dir or osp.join('work_dirs', name)
    cluster = _cluster_options(args)
    default = max(1, len(args.gpus)) if cluster is None else sys.maxsize
    workers = default if args.workers is None else args.workers
    if workers < 1:
        raise ConfigError(f'--workers {workers} must be at least 1')
    file = osp.join(out_dir, 'table.md')
    if osp.exists(file) and not osp.exists(osp.join(out_dir, 'runs.jsonl')):
        raise WriteError(
            f'{file} exists already, but {out_dir} holds no sweep: choose another --out-dir'
        )
    tasks = list(tasks)
    for task in tasks:
        check_held_out(task)
    try:
        outcomes = run_protocol(
            tasks,
            search['seeds'],
            out_dir,
            search.get('metric', 'accuracy/top1'),
            workers,
            args.gpus,
            cluster,
        )
        text = table(outcomes)
        write_atomically(f'{text}\n'.encode(), file)
    except WriteError as error:
        raise WriteError(
            f'{error}\nFinished runs are in {out_dir}; the same command continues'
        ) from error
    except KeyboardInterrupt:
        print(f'\ninterrupted; finished runs are in {out_dir}; the same command continues')
        raise
    print(f'\n{text}\n\nThe table is in {file}')


def _cluster_options(args: argparse.Namespace) -> dict[str, Any] | None:
    """Options of the jobs; None if the runs are on this machine."""
    options = dict(args.job_options)
    if args.partition is not None:
        options['slurm_partition'] = args.partition
    if args.executor == 'local':
        if options:
            raise ConfigError(
                '--partition and --job-options are for jobs of a cluster: add --executor submitit'
            )
        return None
    if args.gpus:
        raise ConfigError(
            f'--gpus {" ".join(args.gpus)} are those of this machine; jobs get theirs by '
            '--job-options gpus_per_node=1'
        )
    return options
