"""Draw lists of training, held-out and test images at random from a folder per class.

Every folder that holds images is a class, also below other folders; labels follow the order of the
folders by name. The target gets train.txt, val.txt, trainval.txt and test.txt with lines
"relative/path label", as tools/vtab.py reads them. The images stay where they are.

    python tools/dataset_converters/split_folders.py data/omniglot_small1 work_dirs/lists/omniglot \
        --train 800 --val 200
"""

from __future__ import annotations

import argparse
import os.path as osp
import random
import sys
from collections import Counter
from pathlib import Path

from toast_mm.datasets.passed_over import IMAGES
from toast_mm.datasets.vtab import IMAGE_SUFFIXES
from toast_mm.files import WriteError, make_folder, write_atomically
from toast_mm.outputs import add_overwrite, check_free


def labelled_images(source: Path) -> list[tuple[Path, int]]:
    """Images below a folder, each with the number of its own folder as label."""
    images = sorted(path for path in source.rglob('*') if path.suffix.lower() in IMAGE_SUFFIXES)
    label_of = {folder: n for n, folder in enumerate(sorted({path.parent for path in images}))}
    return [(path, label_of[path.parent]) for path in images]


def number_of_images(text: str) -> int:
    """Parse a positive number; Python would count a negative one from the end."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{text} must be at least 1')
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', type=Path, help='folder with a folder per class')
    parser.add_argument('target', type=Path, help='folder for the lists')
    parser.add_argument(
        '--train', type=number_of_images, required=True, help='number of training images'
    )
    parser.add_argument(
        '--val', type=number_of_images, required=True, help='number of held-out images'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the draw')
    add_overwrite(parser)
    args = parser.parse_args()
    samples = labelled_images(args.source)
    others = Counter(
        path.suffix
        for path in args.source.rglob('*')
        if path.suffix.lower() in set(IMAGES) - IMAGE_SUFFIXES
    )
    if others:
        found = ', '.join(f'{number} {suffix}' for suffix, number in sorted(others.items()))
        print(f'{args.source}: skipped {found}; read are {", ".join(sorted(IMAGE_SUFFIXES))}')
    if len(samples) <= args.train + args.val:
        sys.exit(
            f'{args.source} has {len(samples)} images in folders: {args.train} for training and '
            f'{args.val} held out leave none for testing'
        )
    random.Random(args.seed).shuffle(samples)
    trainval = args.train + args.val
    parts = {
        'train': samples[: args.train],
        'val': samples[args.train : trainval],
        'trainval': samples[:trainval],
        'test': samples[trainval:],
    }
    lists = {name: args.target / f'{name}.txt' for name in parts}
    try:
        images = [path for path, _ in samples]
        check_free(lists.values(), images, args.overwrite, new_folders=True)
        make_folder(args.target)
        for name, part in parts.items():
            lines = (f'{osp.relpath(path, args.target)} {label}\n' for path, label in part)
            write_atomically(''.join(lines).encode(), str(lists[name]))
    except WriteError as error:
        sys.exit(str(error))
    classes = 1 + max(label for _, label in samples)
    sizes = ', '.join(f'{len(part)} {name}' for name, part in parts.items())
    print(f'{args.target}: {classes} classes; {sizes}')


if __name__ == '__main__':
    main()
