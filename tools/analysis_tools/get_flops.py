"""Count the operations and parameters of a model, in both passes and folded.

Nothing is computed and no weights are read. A multiply-add is two operations; GMACs, by which
models are often compared, count it as one. Norms, activations and upsampling are not counted. An
auxiliary head has parameters, but tests do not run it.

Example:
    python tools/analysis_tools/get_flops.py configs/ade20k_toast_upernet.py --shape 512 512
"""

from __future__ import annotations

import argparse
import sys

from mmengine.config import Config
from prettytable import PrettyTable

from toast_mm.command_line import config_parser, read_with_options
from toast_mm.engine.config import ConfigError
from toast_mm.engine.explain import explained
from toast_mm.engine.flops import costs
from toast_mm.registry import type_name


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__.splitlines()[0])
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        metavar='PIXELS',
        help='side, or height and width, of the images that the model gets; default: the window '
        'of tests, else the size of the preprocessor, else that of the transforms of tests, else '
        'img_size of the backbone, else 224',
    )
    args = parser.parse_args()
    if args.shape and (len(args.shape) > 2 or min(args.shape) < 1):
        wrong = ' '.join(map(str, args.shape))
        parser.error(f'--shape {wrong} must be a side, or a height and a width, in pixels')
    return args


def size_of(cfg: Config) -> tuple[int, int]:
    """Size of the images that the model of a config gets."""
    model = cfg.model
    test = model.get('test_cfg') or {}
    size = test.get('crop_size') if test.get('mode') == 'slide' else None
    size = size or (model.get('data_preprocessor') or {}).get('size') or pipeline_size(cfg)
    size = size or model.get('backbone', {}).get('img_size') or 224
    return (size, size) if isinstance(size, int) else tuple(size)


def pipeline_size(cfg: Config) -> int | None:
    """Side of the squares that the transforms of tests make, or None if they do not."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    sizes = {'CenterCrop': 'crop_size', 'Resize': 'scale'}
    sides = [step.get(sizes.get(type_name(step))) for step in dataset.get('pipeline') or ()]
    return next((side for side in reversed(sides) if isinstance(side, int)), None)


def main() -> None:
    args = parse_args()
    try:
        cfg = read_with_options(args)
        if cfg.get('model') is None:
            raise ConfigError(f'config file {args.config} has no model')
        size = (args.shape[0], args.shape[-1]) if args.shape else size_of(cfg)
        with explained(cfg):
            found = costs(cfg, size)
    except (ImportError, ValueError) as error:
        sys.exit(str(error))
    table = PrettyTable(['', 'GFLOPs', 'ratio', 'GMACs', 'parameters', 'tuned'], align='r')
    table.align[''] = 'l'
    first = next(iter(found.values())).flops
    for title, cost in found.items():
        table.add_row(
            [
                title,
                f'{cost.flops / 1e9:.5g}',
                f'{cost.flops / first:.2f}',
                f'{cost.flops / 2e9:.5g}',
                f'{cost.parameters:,}',
                f'{cost.tuned:,}' if cost.tuned else '',
            ]
        )
    print(f'{args.config}, one image of {size[0]} x {size[1]}')
    print(table)


if __name__ == '__main__':
    main()
