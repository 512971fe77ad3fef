"""Convert a table of images and classes into folders for mmpretrain.

The columns are path, label and, optionally, split (train, val or test). A table of other columns
needs a header, and their names. Without a column of splits, the split is random.

    python tools/dataset_converters/csv_table.py birds.csv data/birds
    python tools/dataset_converters/csv_table.py birds.csv data/birds --path-column file \\
        --label-column species --images photos
"""

from __future__ import annotations

import argparse
from pathlib import Path

from converting import convert_into

from toast_mm.conversion import add_options
from toast_mm.conversion.readers import read_csv
from toast_mm.conversion.readers.csv_table import COLUMNS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('table', type=Path, help='CSV file')
    parser.add_argument(
        '--images', type=Path, help='folder that paths are relative to; default: that of the table'
    )
    for name in COLUMNS:
        parser.add_argument(f'--{name}-column', metavar='NAME', help=f'default: {name}')
    parser.add_argument('--delimiter', default=',', help="default: a comma; '\\\\t' is a tab")
    add_options(parser, ('classification',))
    args = parser.parse_args()
    columns = {name: getattr(args, f'{name}_column') for name in COLUMNS}
    columns = {name: title for name, title in columns.items() if title is not None}
    delimiter = args.delimiter.replace('\\t', '\t')
    if len(delimiter) != 1:
        parser.error(f'--delimiter {args.delimiter} must be one character')
    convert_into(args, read_csv, args.table, args.images, columns, delimiter)


if __name__ == '__main__':
    main()
