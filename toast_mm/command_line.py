"""Shared code of the command lines in ``tools/``. It raises errors; the tools exit."""

from __future__ import annotations

import argparse
import os
import os.path as osp

import torch
from mmengine.config import Config

from toast_mm.engine.config import (
    DATASET,
    ConfigError,
    ConfigOptions,
    apply_options,
    job_name,
    read_config,
)

# The variables in which launchers tell a process its number on the machine, which is its GPU.
LOCAL_RANKS = {
    'pytorch': 'LOCAL_RANK',
    'mpi': 'OMPI_COMM_WORLD_LOCAL_RANK',
    'slurm': 'SLURM_LOCALID',
}


def config_parser(description: str) -> argparse.ArgumentParser:
    """Parser with a config and its settings, for tools that only read it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        default={},
        help='settings that replace those of the config: key=value, key="[a,b]" or key=a,b',
    )
    return parser


def argument_parser(description: str) -> argparse.ArgumentParser:
    """Parser with the arguments that mm tools share."""
    parser = config_parser(description)
    parser.add_argument(
        '--work-dir',
        help='folder for logs, checkpoints and metrics; work_dirs/<config name>, and _<data set> '
        f'behind it if the environment variable {DATASET} names one',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    # torch.distributed.launch passes the local rank as an argument, torchrun does not.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and apply ``--cfg-options``, ``--launcher`` and ``--work-dir``.

    Raises:
        ConfigError: There is no such config, or a setting does not fit it, or the launcher has
            started more processes than this machine has GPUs.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    _check_gpu(args.launcher)
    cfg = read_with_options(args)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', job_name(args.config, cfg))
    return cfg


def _check_gpu(launcher: str) -> None:
    """Check that there is a GPU for this process, unless there is none for any."""
    name = LOCAL_RANKS.get(launcher, '')
    number = os.environ.get(name) or '0'
    if not number.isdecimal():
        raise ConfigError(
            f'the environment variable {name}={number} must be the number of this process on its '
            f'machine, from 0: start the tool by a launcher, or with --launcher none'
        )
    gpus = torch.cuda.device_count() if name else 0
    if gpus and int(number) >= gpus:
        raise ConfigError(
            f'--launcher {launcher}: this is process {int(number) + 1} of this machine, but it '
            f'sees {gpus} GPU{"s" * (gpus > 1)}: start at most one process per GPU'
        )


def read_with_options(args: argparse.Namespace) -> Config:
    """Read the config and apply ``--cfg-options``.

    Raises:
        ConfigError: There is no such config, or a setting does not fit it.
    """
    cfg = read_config(args.config)
    apply_options(cfg, args.cfg_options)
    return cfg


def is_file(path: str) -> bool:
    """Whether a path is a local file that exists, or a remote one."""
    return '://' in path or osp.isfile(path)
