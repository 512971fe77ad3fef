"""Convert a JSON export of Label Studio into a data set, with a random split.

Polygons, rectangles, ellipses and brushes become masks for mmsegmentation; choices become the
classes of images for mmpretrain. A later annotation covers an earlier one.

    python tools/dataset_converters/label_studio.py export.json photos data/streets --seed 0
"""

from __future__ import annotations

import argparse
from pathlib import Path

from converting import convert_into

from toast_mm.conversion import add_options
from toast_mm.conversion.readers import read_label_studio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('annotations', type=Path, help='export in the format "JSON"')
    parser.add_argument('images', type=Path, help='folder of the images')
    parser.add_argument(
        '--key', help='key of the image in the data of a task; default: the only path'
    )
    add_options(parser)
    args = parser.parse_args()
    convert_into(args, read_label_studio, args.annotations, args.images, args.key)


if __name__ == '__main__':
    main()
