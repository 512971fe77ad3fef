"""Make a table of results: methods by data sets, with mean and deviation over seeds.

Folders are work directories of trainings or of sweeps (tools/vtab.py). Methods, backbones and data
sets are read from the names of the configs.

Example:
    python tools/analysis_tools/result_table.py work_dirs/*_fgvc-224x224_* \
        --published --curve curve.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from toast_mm.experiments.results import read_results
from toast_mm.experiments.tables import FORMATS, add_published, cells, collect, draw_curve
from toast_mm.files import WriteError, atomic_write, write_atomically
from toast_mm.outputs import add_overwrite, check_free


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folders', nargs='+', help='work directories')
    parser.add_argument('--metric', default='accuracy/top1', help='for segmentation: mIoU')
    parser.add_argument('--format', choices=FORMATS, default='markdown')
    parser.add_argument('--published', action='store_true', help="add the paper's figures")
    parser.add_argument('--out', metavar='FILE', help='file for the table')
    parser.add_argument('--curve', metavar='FILE.png', help='draw the metric over tuned parameters')
    add_overwrite(parser)
    args = parser.parse_args()
    if args.curve and not args.curve.endswith('.png'):
        parser.error(f'--curve {args.curve} must end in .png')
    outputs = [out for out in (args.out, args.curve) if out]
    inputs = [
        path
        for folder in args.folders
        for path in Path(folder).rglob('*')
        if path.suffix in ('.json', '.jsonl', '.py')
    ]
    try:
        check_free(outputs, inputs, args.overwrite)
        rows = collect(
            result for folder in args.folders for result in read_results(folder, args.metric)
        )
        text = FORMATS[args.format](cells(add_published(rows) if args.published else rows))
        print(text)
        if args.out:
            write_atomically(f'{text}\n'.encode(), args.out)
        if args.curve:
            with atomic_write(args.curve) as partial:
                draw_curve(rows, partial, args.metric)
            print(f'\nThe curve is in {args.curve}')
    except (FileNotFoundError, ValueError, WriteError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
