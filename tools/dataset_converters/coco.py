"""Convert annotations of COCO into masks for mmsegmentation, with a random split.

Polygons and masks (RLE, compressed or not) are painted in the order of the file: a later annotation
covers an earlier one. Class 0 is the background; categories follow in the order of their numbers.

    python tools/dataset_converters/coco.py instances.json photos data/streets --seed 0
"""

from __future__ import annotations

import argparse
from pathlib import Path

from converting import convert_into

from toast_mm.conversion import add_options
from toast_mm.conversion.readers import read_coco
from toast_mm.conversion.readers.coco import CROWD, CROWDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('annotations', type=Path, help='JSON file of COCO')
    parser.add_argument('images', type=Path, help='folder that file_name is relative to')
    parser.add_argument(
        '--boxes', action='store_true', help='take the box of an annotation without segmentation'
    )
    parser.add_argument(
        '--holes',
        action='store_true',
        help='a polygon inside another one of the same annotation is a hole; without this, as in '
        "COCO's own tools, polygons of an annotation are united",
    )
    parser.add_argument(
        '--crowds',
        choices=CROWDS,
        default='class',
        help='annotations with iscrowd=1 are of their class, ignored (255), or left out; '
        'default: class',
    )
    add_options(parser, ('segmentation',))
    args = parser.parse_args()
    if args.crowds == 'ignore':
        args.ignored = [*args.ignored, CROWD]
    convert_into(
        args, read_coco, args.annotations, args.images, args.boxes, args.holes, args.crowds
    )


if __name__ == '__main__':
    main()
