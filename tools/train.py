"""Tune a classifier or a segmentor.

Example:
    python tools/train.py configs/ade20k_toast_upernet.py --amp
"""

from __future__ import annotations

import argparse
import signal
import sys

import torch
from mmengine.config import Config

from toast_mm.checkpoint import CheckpointError
from toast_mm.command_line import argument_parser, is_file, load_config
from toast_mm.engine import NotFiniteError, Preempted, parameter_table
from toast_mm.engine.config import ConfigError
from toast_mm.engine.explain import explained
from toast_mm.engine.resumption import latest_checkpoint, note_launch, was_restarted
from toast_mm.engine.runner import build_runner, check_settings
from toast_mm.files import WriteError
from toast_mm.registry import type_name


def parse_args() -> argparse.Namespace:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from a checkpoint, or from the newest one in the work dir if none is named',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision (on a CPU: bfloat16, if it has that)',
    )
    parser.add_argument('--no-validate', action='store_true', help='train without validation')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by actual batch size / auto_scale_lr.base_batch_size',
    )
    parser.add_argument(
        '--check',
        action='store_true',
        help='only check the arguments and the settings of the config',
    )
    args = parser.parse_args()
    if args.resume not in (None, 'auto') and not is_file(args.resume):
        parser.error(f'--resume: checkpoint {args.resume} does not exist')
    return args


def apply_resume(cfg: Config, resume: str | None) -> None:
    """Resume as asked; a job that was restarted resumes from its newest checkpoint."""
    if was_restarted(cfg.work_dir):
        resume = 'auto'
    if resume == 'auto' and not latest_checkpoint(cfg.work_dir) and cfg.get('load_from'):
        print(f'no checkpoint to resume in {cfg.work_dir}: starting from {cfg.load_from}')
    elif resume:
        cfg.resume = True
        cfg.load_from = None if resume == 'auto' else resume


def apply_arguments(cfg: Config, args: argparse.Namespace) -> None:
    apply_resume(cfg, args.resume)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            sys.exit('--auto-scale-lr: the config has no auto_scale_lr.base_batch_size')
        cfg.auto_scale_lr.enable = True
    if args.amp:
        wrapper = cfg.optim_wrapper
        kind = type_name(wrapper)
        if kind in ('', 'OptimWrapper'):
            if torch.cuda.is_available():
                wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic')
            else:
                wrapper.type = 'toast_mm.BFloat16OptimWrapper'
        elif kind not in ('AmpOptimWrapper', 'BFloat16OptimWrapper'):
            sys.exit(f'--amp: optim_wrapper.type is {kind}; it works with OptimWrapper')


def main() -> None:
    args = parse_args()
    try:
        cfg = load_config(args)
        apply_arguments(cfg, args)
        if args.check:
            return check_settings(cfg)
    except ConfigError as error:
        sys.exit(str(error))
    try:
        with explained(cfg):
            runner = build_runner(cfg)
        note_launch(runner.work_dir)
        runner.logger.info(f'Parameters:\n{parameter_table(runner.model)}')
    except WriteError as error:
        sys.exit(str(error))
    try:
        with explained(cfg):
            runner.train()
    except Preempted as left:
        if args.launcher == 'slurm':  # which sends SIGTERM to the others once a process has ended
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(left.status)
    except KeyboardInterrupt:
        runner.logger.warning(
            f'interrupted after {runner.iter} iterations; the same command with --resume continues '
            f'from the newest checkpoint in {runner.work_dir}'
        )
        sys.exit(130)
    except (CheckpointError, NotFiniteError, WriteError) as error:
        sys.exit(str(error))
    runner.logger.info(f'Done: logs and checkpoints are in {runner.work_dir}')


if __name__ == '__main__':
    main()
