"""Convert masks in colours into masks of class numbers for mmsegmentation, with a random split.

The palette has a line "name R G B" per class, in their order. A colour that is not in it is an
error, which names the file, the colour, the number of pixels and the first one.

    python tools/dataset_converters/rgb_masks.py photos labels palette.txt data/streets --seed 0
"""

from __future__ import annotations

import argparse
from pathlib import Path

from converting import convert_into

from toast_mm.conversion import Annotations, add_options, read_classes
from toast_mm.conversion.readers import read_rgb_masks


def read(images: Path, masks: Path, palette: Path, suffix: str) -> Annotations:
    return read_rgb_masks(images, masks, read_classes(palette), suffix)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('images', type=Path, help='folder of the images')
    parser.add_argument(
        'masks', type=Path, help='folder of the masks, with the names of the images'
    )
    parser.add_argument('classes', type=Path, metavar='palette', help='file with the colours')
    parser.add_argument(
        '--mask-suffix',
        default='',
        help='what a mask has after the name of its image, such as _mask',
    )
    add_options(parser, ('segmentation',), palette=True)
    args = parser.parse_args()
    convert_into(args, read, args.images, args.masks, args.classes, args.mask_suffix)


if __name__ == '__main__':
    main()
