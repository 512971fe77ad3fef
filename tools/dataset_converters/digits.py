"""Make the data of the quickstart from the handwritten digits of scikit-learn, offline.

Example:
    python tools/dataset_converters/digits.py data/digits
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from digits_files import SIZES, FolderError, make_digits
from rich.console import Console
from rich.progress import track


def number_of_images(text: str) -> int:
    number = int(text)
    if number < 10:
        raise argparse.ArgumentTypeError(
            f'{number} must be at least 10: every digit needs an image'
        )
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', help='folder to make, such as data/digits')
    parser.add_argument(
        '--cued',
        type=number_of_images,
        default=SIZES['cued']['train'],
        metavar='N',
        help='training images of the cued digits (default: %(default)s)',
    )
    args = parser.parse_args()
    sizes = dict(SIZES, cued=dict(SIZES['cued'], train=args.cued))
    bar = partial(track, description='drawing digits', console=Console(stderr=True))
    try:
        made = make_digits(args.out, sizes, track=bar)
    except FolderError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    print(f'{args.out} was made' if made else f'{args.out} exists already')


if __name__ == '__main__':
    main()
