"""Convert JSON files of labelme into a data set, with a random split.

Polygons, rectangles, circles and masks become masks for mmsegmentation; the flag of an image
becomes its class for mmpretrain. A later shape covers an earlier one. As in labelme's own tools,
the label __ignore__ stands for pixels without a class, and _background_ for class 0.

    python tools/dataset_converters/labelme.py annotated data/streets --seed 0
"""

from __future__ import annotations

import argparse
from pathlib import Path

from converting import convert_into

from toast_mm.conversion import add_options
from toast_mm.conversion.readers import read_labelme

IGNORED, BACKGROUND = '__ignore__', '_background_'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('annotations', type=Path, help='folder of JSON files')
    parser.add_argument(
        '--images', type=Path, help='folder of the images; default: where the JSON files say'
    )
    add_options(parser)
    parser.set_defaults(ignored=[IGNORED], background=BACKGROUND)
    args = parser.parse_args()
    convert_into(args, read_labelme, args.annotations, args.images)


if __name__ == '__main__':
    main()
