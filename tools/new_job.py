"""Write a config that tunes a backbone on your own data; what is not said is asked.

python tools/new_job.py vit-1m data/flowers --method lora --out flowers.py
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toast_mm.engine.config import ConfigError
from toast_mm.files import WriteError
from toast_mm.jobs import DataError, base_names, job_config, job_name, method_names, read_layout
from toast_mm.jobs.bases import TASKS, find_base
from toast_mm.jobs.methods import check_method
from toast_mm.outputs import add_overwrite


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('backbone', nargs='?', help='name of a base config, or of a model of timm')
    parser.add_argument('data', nargs='?', help='folder with your images')
    parser.add_argument('--method', help='what is tuned; default: toast')
    parser.add_argument('--out', help='config to write; default: <method>_<backbone>_<data>.py')
    parser.add_argument('--list', action='store_true', help='list backbones and methods')
    parser.add_argument('--image-size', type=int, metavar='N', help='side of the images')
    parser.add_argument('--epochs', type=int, metavar='N', help='length, for classification')
    parser.add_argument('--max-iters', type=int, metavar='N', help='length, for segmentation')
    parser.add_argument('--batch-size', type=int, metavar='N', help='images per step')
    parser.add_argument('--lr', type=float, help='learning rate')
    parser.add_argument(
        '--no-flip', dest='flip', action='store_false', help='images are not flipped at random'
    )
    parser.add_argument('--checkpoint', metavar='FILE', help='weights of the backbone')
    parser.add_argument('--pretuned', metavar='FILE', help='pre-tuned top-down module')
    parser.add_argument(
        '--held-out',
        type=float,
        default=0.2,
        metavar='SHARE',
        help='share of the training images to validate on if the data has no val; default: 0.2',
    )
    parser.add_argument('--seed', type=int, default=0, help='of the split and of the training')
    add_overwrite(parser)
    args = parser.parse_args()
    missing = [name for name in ('backbone', 'data') if getattr(args, name) is None]
    if missing and not args.list and not sys.stdin.isatty():
        parser.error(f'{" and ".join(missing)} must be given where nobody can be asked')
    return args


def listing() -> str:
    """Backbones and methods."""
    lines = [f'backbones for {task}: {", ".join(base_names(task))}' for task in TASKS]
    lines += ['and the models of timm: python tools/misc/backbones.py PATTERN']
    return '\n'.join([*lines, f'methods: {", ".join(method_names())}'])


def ask(question: str, check: Callable[[str], Any], default: str = '') -> str:
    """Ask until an answer is right; an empty one is the default."""
    while True:
        answer = input(f'{question}{f" [{default}]" if default else ""}: ').strip() or default
        try:
            check(answer)
        except (ConfigError, DataError) as error:
            print(error)
        else:
            return answer


def check_out(path: str) -> None:
    if not path.endswith('.py') or os.path.exists(path):
        raise ConfigError(f'{path} must end in .py and not exist')


def complete(args: argparse.Namespace) -> None:
    """Ask for what the arguments do not say."""
    print(listing())
    if args.data is None:
        args.data = ask('folder with your images', read_layout)
    task = read_layout(args.data, args.held_out, args.seed).task
    if args.backbone is None:
        args.backbone = ask('backbone', lambda name: find_base(name, task), 'vit-1m')
    args.method = args.method or ask('method', check_method, 'toast')
    if args.out is None:
        args.out = ask('config', check_out, f'{job_name(args.backbone, args.data, args.method)}.py')


def main() -> None:
    args = parse_args()
    if args.list:
        print(listing())
        return
    settings = vars(args)
    try:
        if args.backbone is None or args.data is None:
            complete(args)
        args.method = args.method or 'toast'
        args.out = args.out or f'{job_name(args.backbone, args.data, args.method)}.py'
        del settings['list']
        cfg = job_config(**settings)
    except (ConfigError, DataError, WriteError) as error:
        sys.exit(str(error))
    print(Path(cfg.filename).read_text(encoding='utf-8'))
    print(f'{args.out} is written. Train it with\n\n    python tools/train.py {args.out}')


if __name__ == '__main__':
    main()
