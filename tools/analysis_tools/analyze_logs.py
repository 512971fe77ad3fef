"""Compare the curves of trainings: first, last, lowest and highest value, and a picture.

Runs are work directories, or files vis_data/scalars.json. The logs of a resumed training are one
curve.

Example:
    python tools/analysis_tools/analyze_logs.py work_dirs/toast work_dirs/linear \
        --keys loss accuracy/top1 --out curves.png
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from prettytable import PrettyTable

from toast_mm.experiments.curves import Curve, draw_curves, read_curves
from toast_mm.files import WriteError, atomic_write
from toast_mm.outputs import add_overwrite, check_free


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', nargs='+', help='work directories, or files of scalars')
    parser.add_argument(
        '--keys', nargs='+', default=['loss'], help='what to compare; default: loss'
    )
    parser.add_argument('--legend', nargs='+', metavar='TITLE', help='titles of the runs')
    parser.add_argument('--out', metavar='FILE.png', help='picture with a panel for every key')
    add_overwrite(parser)
    args = parser.parse_args()
    if args.legend and len(args.legend) != len(args.runs):
        parser.error(f'--legend has {len(args.legend)} titles for {len(args.runs)} runs')
    repeated = [title for title in titles(args) if titles(args).count(title) > 1]
    if repeated:
        parser.error(f'{repeated[0]} is there twice: name each run once')
    if args.out and not args.out.endswith(('.png', '.pdf', '.svg')):
        parser.error(f'--out {args.out} must end in .png, .pdf or .svg')
    return args


def titles(args: argparse.Namespace) -> list[str]:
    """Names of the runs: those given, else the names of the folders, else the paths."""
    paths = [os.path.normpath(run) for run in args.runs]
    names = [os.path.basename(path) for path in paths]
    return args.legend or (names if len({*names}) == len(names) else paths)


def missing(runs: dict[str, dict[str, Curve]], keys: Sequence[str]) -> str | None:
    """Name the first key that a run did not log, and those that it did."""
    for title, curves in runs.items():
        for key in keys:
            if key not in curves:
                return f'--keys {key}: {title} has no such values, but {", ".join(sorted(curves))}'
    return None


def main() -> None:
    args = parse_args()
    try:
        logs = [p for run in args.runs for p in [Path(run), *Path(run).glob('**/*.json')]]
        check_free([args.out] if args.out else [], logs, args.overwrite)
        runs = dict(zip(titles(args), map(read_curves, args.runs), strict=True))
        if wrong := missing(runs, args.keys):
            sys.exit(wrong)
        table = PrettyTable(['run', 'key', 'points', 'first', 'last', 'lowest', 'highest', 'end'])
        table.align = 'r'
        table.align['run'] = table.align['key'] = 'l'
        for key in args.keys:
            for title, curves in runs.items():
                points = curves[key].points
                values = [points[step] for step in sorted(points)]
                numbers = (values[0], values[-1], min(values), max(values))
                end = f'{curves[key].unit} {max(points)}'
                table.add_row([title, key, len(values), *(f'{n:.4g}' for n in numbers), end])
        print(table)
        if args.out:
            with atomic_write(args.out) as partial:
                draw_curves(runs, args.keys, partial)
            print(f'The curves are in {args.out}')
    except (FileNotFoundError, ValueError, WriteError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
