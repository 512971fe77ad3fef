"""What the command lines of ``tools/`` have in common."""

from __future__ import annotations

import argparse
import os
import os.path as osp
import sys

import mmengine.runner
from mmengine.config import Config
from mmengine.registry import RUNNERS, init_default_scope
from mmengine.runner import load_checkpoint
from torch import nn

from toast_mm.checkpoint import CheckpointError
from toast_mm.finite import demand_finite

from .config import ConfigError, ConfigOptions, apply_options, read_config
from .model import build_model
from .runner import Runner


def argument_parser(description: str) -> argparse.ArgumentParser:
    """Parser with the arguments that mm tools share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir', help='folder for logs, checkpoints and metrics; work_dirs/<config name>'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        default={},
        help='settings that replace those of the config: key=value, key="[a,b]" or key=a,b',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    # torch.distributed.launch hands over the local rank as an argument, torchrun does not.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def load_config(args: argparse.Namespace) -> Config:
    """Config file with ``--cfg-options``, ``--launcher`` and ``--work-dir`` applied."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    try:
        cfg = read_config(args.config)
        apply_options(cfg, args.cfg_options)
    except ConfigError as error:
        sys.exit(str(error))
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])
    return cfg


def load_model(cfg: Config, checkpoint: str) -> nn.Module:
    """The model of a config with all its weights, on the CPU and in eval mode."""
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = build_model(cfg)
    try:
        load_checkpoint(model, checkpoint, map_location='cpu', strict=True)
    except RuntimeError as error:
        sys.exit(f'checkpoint {checkpoint} does not fit the config: {" ".join(str(error).split())}')
    try:
        demand_finite(dict(model.named_parameters()), f'checkpoint {checkpoint}')
    except CheckpointError as error:
        sys.exit(str(error))
    return model.eval()


def build_runner(cfg: Config) -> mmengine.runner.Runner:
    """The runner that the config names, by default this project's."""
    return RUNNERS.build(cfg) if cfg.get('runner_type') else Runner.from_cfg(cfg)


def is_file(path: str) -> bool:
    """Whether a checkpoint can be looked for: a local file that exists, or a remote one."""
    return '://' in path or osp.isfile(path)
