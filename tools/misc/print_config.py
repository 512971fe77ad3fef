"""Print a config as a run gets it: with all that it inherits and with --cfg-options.

Of a checkpoint, print the config that it holds. That is text and is not run.

Example:
    python tools/misc/print_config.py configs/ade20k_toast_upernet.py \
        --cfg-options train_cfg.max_iters=9
    python tools/misc/print_config.py work_dirs/JOB/epoch_20.pth
"""

from __future__ import annotations

import argparse
import sys

from mmengine.runner import CheckpointLoader

from toast_mm.checkpoint import CheckpointError
from toast_mm.command_line import config_parser, read_with_options
from toast_mm.engine.config import ConfigError
from toast_mm.files import WriteError, write_atomically
from toast_mm.outputs import add_overwrite, check_free

CHECKPOINTS = ('.pth', '.pt', '.safetensors')


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__.splitlines()[0])
    parser.add_argument('--out', metavar='FILE.py', help='also write it to a file')
    add_overwrite(parser)
    args = parser.parse_args()
    if args.out and not args.out.endswith('.py'):
        parser.error(f'--out {args.out} must end in .py')
    if args.config.endswith(CHECKPOINTS) and args.cfg_options:
        parser.error('--cfg-options is for config files, not for the config of a checkpoint')
    return args


def text_of(args: argparse.Namespace) -> str:
    """The config as text.

    Raises:
        CheckpointError: The file is no checkpoint, or holds no config.
        ConfigError: There is no such config, or a setting does not fit it.
    """
    if not args.config.endswith(CHECKPOINTS):
        return read_with_options(args).pretty_text
    meta = CheckpointLoader.load_checkpoint(args.config, 'cpu', 'silent').get('meta', {})
    if not isinstance(meta.get('cfg'), str):
        raise CheckpointError(f'{args.config} holds no config: name the config of its training')
    return meta['cfg']


def main() -> None:
    args = parse_args()
    try:
        check_free([args.out] if args.out else [], [args.config], args.overwrite)
        text = f'{text_of(args).rstrip()}\n'
        print(text, end='')
        if args.out:
            write_atomically(text.encode(), args.out)
    except (CheckpointError, ConfigError, FileNotFoundError, WriteError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
