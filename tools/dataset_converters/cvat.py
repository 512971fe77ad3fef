"""Convert an export of CVAT ("CVAT for images 1.1") into a data set, with a random split.

Polygons, boxes, ellipses and masks become masks for mmsegmentation; tags become the classes of
images for mmpretrain. Shapes are painted in their z-order and that of the file: a later one covers
an earlier one.

    python tools/dataset_converters/cvat.py annotations.xml images data/streets --seed 0
"""

from __future__ import annotations

import argparse
from pathlib import Path

from converting import convert_into

from toast_mm.conversion import add_options
from toast_mm.conversion.readers import read_cvat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('annotations', type=Path, help='annotations.xml')
    parser.add_argument('images', type=Path, help='folder that the names of images are relative to')
    add_options(parser)
    args = parser.parse_args()
    convert_into(args, read_cvat, args.annotations, args.images)


if __name__ == '__main__':
    main()
