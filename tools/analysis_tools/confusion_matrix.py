"""Test a classifier or a segmentor, and write its confusion matrix as a table and as a picture.

Rows are true classes, columns predicted ones. Of segmentation, pixels are counted.

Example:
    python tools/analysis_tools/confusion_matrix.py configs/JOB.py work_dirs/JOB/epoch_20.pth
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys
import warnings
from collections.abc import Sequence

import matplotlib.pyplot as plt
from mmengine.config import Config
from mmpretrain.evaluation import ConfusionMatrix
from torch import Tensor

from toast_mm.checkpoint import CheckpointError
from toast_mm.command_line import argument_parser, is_file, load_config
from toast_mm.engine.config import ConfigError
from toast_mm.engine.explain import explained
from toast_mm.engine.runner import build_runner
from toast_mm.files import atomic_write, make_folder, write_atomically
from toast_mm.outputs import add_overwrite, check_free

READABLE = 20  # number of classes up to which the picture shows numbers
SHOWN = 5  # number of confusions that are printed
METRICS = {'mmpretrain': 'mmpretrain.ConfusionMatrix', 'mmseg': 'toast_mm.PixelConfusionMatrix'}


def parse_args() -> argparse.Namespace:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='checkpoint file of the whole model')
    parser.add_argument('--out', metavar='FILE.csv', help='table; WORK_DIR/confusion_matrix.csv')
    parser.add_argument(
        '--picture', metavar='FILE.png', help='picture; WORK_DIR/confusion_matrix.png'
    )
    add_overwrite(parser)
    args = parser.parse_args()
    if not is_file(args.checkpoint):
        parser.error(f'checkpoint {args.checkpoint} does not exist')
    for option, path, suffix in (('out', args.out, '.csv'), ('picture', args.picture, '.png')):
        if path and not path.endswith(suffix):
            parser.error(f'--{option} {path} must end in {suffix}')
    return args


def prepare(cfg: Config, args: argparse.Namespace) -> None:
    """Make the test of a config one that gives the matrix.

    Raises:
        ConfigError: The config has no test, or its classes are not exclusive.
    """
    if cfg.get('test_dataloader') is None or cfg.get('model') is None:
        raise ConfigError(f'config file {args.config} has no model and test_dataloader to test')
    scope = cfg.get('default_scope')
    if scope not in METRICS:
        raise ConfigError(f'default_scope={scope!r} must be one of {", ".join(METRICS)}')
    if 'MultiLabel' in str(cfg.model.get('head', {}).get('type')):
        raise ConfigError('images with several labels have no confusion matrix')
    cfg.load_from, cfg.resume = args.checkpoint, False
    cfg.test_evaluator = dict(type=METRICS[scope])
    cfg.test_cfg = cfg.get('test_cfg') or {}


def table(matrix: Tensor, names: Sequence[str]) -> bytes:
    """The matrix as CSV."""
    stream = io.StringIO()
    rows = zip(names, matrix.tolist(), strict=True)
    csv.writer(stream, lineterminator='\n').writerows(
        [['true class', *names], *([name, *row] for name, row in rows)]
    )
    return stream.getvalue().encode()


def draw(matrix: Tensor, names: Sequence[str], path: str) -> None:
    """Draw the percentages of every true class that are predicted as each class."""
    percent = (100 * matrix / matrix.sum(1, keepdim=True).clamp(min=1)).round().int()
    few = len(names) <= READABLE
    with warnings.catch_warnings():  # of NumPy, since mmpretrain draws a tensor
        warnings.simplefilter('ignore', DeprecationWarning)
        figure = ConfusionMatrix.plot(percent, few, classes=list(names), show=False)
        figure.axes[0].set_title('% of the true class')
        figure.axes[0].tick_params(labelsize=min(10, 500 / len(names)))
        figure.savefig(path, dpi=120, bbox_inches='tight')
    plt.close(figure)


def summary(matrix: Tensor, names: Sequence[str]) -> str:
    """The share that is right, and the most frequent confusions."""
    lines = [f'{matrix.trace() / matrix.sum():.2%} of {matrix.sum()} are predicted right']
    wrong = matrix.clone().fill_diagonal_(0).flatten()
    for count, place in zip(*(t.tolist() for t in wrong.sort(descending=True)), strict=True):
        if not count or len(lines) > SHOWN:
            break
        truth, predicted = divmod(place, len(names))
        share = count / matrix[truth].sum().item()
        lines.append(f'{names[truth]} as {names[predicted]}: {count} ({share:.1%} of its class)')
    return '\n'.join(lines)


def main() -> None:
    args = parse_args()
    try:
        cfg = load_config(args)
        prepare(cfg, args)
        out, picture = (
            path or os.path.join(cfg.work_dir, f'confusion_matrix.{suffix}')
            for path, suffix in ((args.out, 'csv'), (args.picture, 'png'))
        )
        inputs = [args.config, args.checkpoint]
        check_free([out, picture], inputs, args.overwrite, new_folders=True)
        with explained(cfg):
            runner = build_runner(cfg)
            matrix = runner.test()[f'{ConfusionMatrix.default_prefix}/result']
        if runner.rank == 0:
            classes = runner.test_dataloader.dataset.metainfo.get('classes') or ()
            names = [*classes, *map(str, range(len(classes), len(matrix)))][: len(matrix)]
            for path in (out, picture):
                make_folder(os.path.dirname(path) or os.curdir)
            write_atomically(table(matrix, names), out)
            with atomic_write(picture) as partial:
                draw(matrix, names, partial)
            print(f'{summary(matrix, names)}\n{out} and {picture} hold the confusion matrix')
    except (CheckpointError, ImportError, ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
