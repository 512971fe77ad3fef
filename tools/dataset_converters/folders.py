"""Split a folder per class into training, validation and test images for mmpretrain.

The source has CLASS/IMAGE, or train/CLASS/IMAGE, val/CLASS/IMAGE and test/CLASS/IMAGE, which stay
as they are. split_folders.py only makes lists.

    python tools/dataset_converters/folders.py photos data/birds --val 0.1 --test 0.1 --seed 0
"""

from __future__ import annotations

import argparse
from pathlib import Path

from converting import convert_into

from toast_mm.conversion import add_options
from toast_mm.conversion.readers import read_folders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', type=Path, help='folder with a folder per class')
    add_options(parser, ('classification',))
    args = parser.parse_args()
    convert_into(args, read_folders, args.source)


if __name__ == '__main__':
    main()
