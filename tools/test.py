"""Test a classifier or a segmentor.

Example:
    python tools/test.py configs/ade20k_toast_upernet.py \
        work_dirs/ade20k_toast_upernet/iter_160000.pth --show-dir pictures
"""

from __future__ import annotations

import argparse
import copy
import sys
from pathlib import Path

import mmengine
from mmengine.config import Config, ConfigDict

from toast_mm.checkpoint import CheckpointError
from toast_mm.command_line import argument_parser, is_file, load_config
from toast_mm.engine import DumpPredictions
from toast_mm.engine.config import ConfigError
from toast_mm.engine.explain import explained
from toast_mm.engine.runner import build_runner
from toast_mm.files import WriteError, atomic_write
from toast_mm.outputs import add_overwrite, check_free
from toast_mm.registry import type_name


def parse_args() -> argparse.Namespace:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='checkpoint file of the whole model')
    parser.add_argument('--out', metavar='FILE', help='file for predictions or metrics')
    parser.add_argument(
        '--out-item',
        choices=['pred', 'metrics'],
        help='what --out holds: predictions (.pkl, default) or metrics (.json, .yaml, .pkl)',
    )
    parser.add_argument('--show-dir', help='folder for pictures of the predictions')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision (on a CPU: bfloat16, if it has that)',
    )
    add_overwrite(parser)
    args = parser.parse_args()
    if not is_file(args.checkpoint):
        parser.error(f'checkpoint {args.checkpoint} does not exist')
    if args.out_item and not args.out:
        parser.error('--out-item needs --out FILE')
    if args.out:
        suffixes = ('.json', '.yaml', '.yml') if args.out_item == 'metrics' else ()
        if not args.out.endswith(('.pkl', '.pickle', *suffixes)):
            parser.error(
                f'--out {args.out} must end with .pkl{", " * bool(suffixes)}{", ".join(suffixes)}'
            )
    return args


def apply_arguments(cfg: Config, args: argparse.Namespace) -> None:
    cfg.load_from, cfg.resume = args.checkpoint, False
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.show_dir:
        hook = cfg.get('default_hooks', {}).get('visualization')
        if hook is None or 'visualizer' not in cfg:
            sys.exit('--show-dir: the config has no default_hooks.visualization or no visualizer')
        if type_name(hook) == 'SegVisualizationHook':
            hook.update(draw=True, interval=1)
            cfg.visualizer.save_dir = args.show_dir
        elif args.tta:
            sys.exit('--show-dir: mmpretrain draws no pictures with --tta')
        else:
            hook.update(enable=True, out_dir=args.show_dir, interval=1)
    if args.tta:
        add_test_time_augmentation(cfg)


def add_test_time_augmentation(cfg: Config) -> None:
    """Use the config's test-time augmentation; a classifier without one gets flips."""
    pipeline = cfg.test_dataloader.dataset.pipeline
    if 'tta_pipeline' not in cfg and cfg.get('default_scope') == 'mmpretrain':
        flips = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
        views = dict(type='TestTimeAug', transforms=[flips, [pipeline[-1]]])
        cfg.tta_model = cfg.get('tta_model', dict(type='AverageClsScoreTTA'))
        cfg.tta_pipeline = [*copy.deepcopy(pipeline[:-1]), views]
    if not {'tta_model', 'tta_pipeline'} <= cfg.keys():
        sys.exit('--tta: the config has no tta_model and tta_pipeline')
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline


def main() -> None:
    args = parse_args()
    try:
        cfg = load_config(args)
    except ConfigError as error:
        sys.exit(str(error))
    apply_arguments(cfg, args)
    outputs = [args.out] if args.out else []
    if args.show_dir:
        outputs += [path for path in Path(args.show_dir).rglob('*') if not path.is_dir()]
    try:
        inputs = [args.config, args.checkpoint]
        check_free(outputs, inputs, args.overwrite, new_folders=True)
        with explained(cfg):
            runner = build_runner(cfg)
            if args.out and args.out_item != 'metrics':
                runner.test_evaluator.metrics.append(DumpPredictions(out_file_path=args.out))
            metrics = runner.test()
        if args.out_item == 'metrics' and runner.rank == 0:
            with atomic_write(args.out) as partial:
                mmengine.dump(metrics, partial)
    except (CheckpointError, WriteError) as error:
        sys.exit(str(error))
    if args.show_dir:
        runner.logger.info(f'Pictures are below {args.show_dir}')


if __name__ == '__main__':
    main()
