"""Make the data of the quickstart from the handwritten digits of scikit-learn, offline.

Example:
    python tools/dataset_converters/digits.py data/digits
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from rich.console import Console
from rich.progress import track

from toast_mm.datasets.digits_files import make_digits
from toast_mm.files import WriteError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', help='folder to make, such as data/digits')
    args = parser.parse_args()
    bar = partial(track, description='drawing digits', console=Console(stderr=True))
    try:
        made = make_digits(args.out, track=bar)
    except WriteError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    print(f'{args.out} is made' if made else f'{args.out} is there already')


if __name__ == '__main__':
    main()
