"""Export a tuned classifier or segmentor to ONNX, with its top-down module folded.

python tools/deployment/export_onnx.py configs/ade20k_toast_upernet.py CKPT out.onnx --size 512 512
"""

from __future__ import annotations

import argparse
import os.path as osp
import sys

from toast_mm.checkpoint import CheckpointError
from toast_mm.command_line import argument_parser, is_file, load_config
from toast_mm.deployment import Deployable, export_onnx
from toast_mm.engine.model import load_model
from toast_mm.files import WriteError
from toast_mm.outputs import add_overwrite, check_free


def parse_args() -> argparse.Namespace:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='checkpoint file of the whole model')
    parser.add_argument('out', help='file to write, ending in .onnx')
    parser.add_argument(
        '--size', type=int, nargs=2, required=True, metavar=('H', 'W'), help='of the images'
    )
    add_overwrite(parser)
    args = parser.parse_args()
    if not is_file(args.checkpoint):
        parser.error(f'checkpoint {args.checkpoint} does not exist')
    if min(args.size) < 1:
        parser.error(f'--size {args.size[0]} {args.size[1]} must be a height and a width of pixels')
    if not args.out.endswith('.onnx'):
        parser.error(f'{args.out} must end in .onnx')
    return args


def main() -> None:
    args = parse_args()
    try:
        check_free([args.out], [args.config, args.checkpoint], args.overwrite)
        cfg = load_config(args)
        model = Deployable(load_model(cfg, args.checkpoint))
        difference = export_onnx(model, args.out, tuple(args.size))
    except (CheckpointError, ImportError, WriteError, ValueError) as error:
        sys.exit(str(error))
    values = 'from 0 to 255' if model.bands == 3 else 'not normalised'
    print(
        f'{args.out}: {osp.getsize(args.out) / 2**20:.2f} MiB; images (batch, {model.bands}, '
        f'{args.size[0]}, {args.size[1]}), {model.channels}, {values}, to scores; onnxruntime '
        f'differs by {difference:.0e}'
    )
    if model.window:
        print(
            f'The config tests in sliding windows of {model.window[0]} x {model.window[1]}; the '
            'file does not slide: cut the windows and average their scores when you run it'
        )


if __name__ == '__main__':
    main()
