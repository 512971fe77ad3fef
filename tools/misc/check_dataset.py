"""Find every broken or doubtful file in the data of a config.

It reads all training, validation and test data with the transforms that load them in a training,
and compares the splits. A broken file fails in a training or is wrong in it; a doubtful one works.
The exit status is 1 if something is broken.

Example:
    python tools/misc/check_dataset.py configs/JOB.py --json report.json --sheet samples.png
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import track

from toast_mm.command_line import config_parser, read_with_options
from toast_mm.files import write_atomically
from toast_mm.inspection import draw_sheet, inspect
from toast_mm.inspection.text import as_data, as_text, counts
from toast_mm.outputs import add_overwrite, check_free


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__.splitlines()[0])
    parser.add_argument('--jobs', type=int, help='processes; default: the processors, at most 8')
    parser.add_argument('--json', metavar='FILE', help='write all findings and counts')
    parser.add_argument('--sheet', metavar='FILE.png', help='draw samples, counts and sizes')
    add_overwrite(parser)
    args = parser.parse_args()
    if args.jobs is not None and args.jobs < 0:
        parser.error(f'--jobs {args.jobs} must be at least 0')
    return args


def show_progress(samples: Iterable[Any], total: int) -> Iterable[Any]:
    return track(samples, 'Checking', total, transient=True, console=Console(stderr=True))


def main() -> None:
    args = parse_args()
    try:
        outputs = [path for path in (args.json, args.sheet) if path]
        check_free(outputs, [args.config], args.overwrite)
        report = inspect(read_with_options(args), args.jobs, show_progress)
        print(as_text(report))
        if args.json:
            content = json.dumps(as_data(report), indent=1, ensure_ascii=False)
            write_atomically(content.encode(), args.json)
        if args.sheet:
            draw_sheet(report, args.sheet)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(str(error))
    sys.exit(1 if counts(report)['broken'] else 0)


if __name__ == '__main__':
    main()
