"""Make lists of VTAB-1k tasks from folders of images by split and class.

    <source>/<task>/<split>/<class>/<image>      splits train800, val200, test (or train, val, test)

TensorFlow Datasets and the common copies of VTAB-1k have this layout. The images stay where they
are. Each task gets train800.txt, val200.txt, train800val200.txt and test.txt (or train.txt, ...)
with lines "relative/path label". If all names of classes are numbers, they are the labels;
otherwise the classes are numbered in alphabetical order. If a task has lists already, they are only
checked.

    python tools/dataset_converters/vtab.py data/vtab-1k
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from toast_mm.datasets.vtab import IMAGE_SUFFIXES, LISTS, VTAB
from toast_mm.files import WriteError, write_atomically


def list_task(task: Path) -> dict[str, list[str]]:
    """Make the lines of the lists of a task, by name of the list.

    Raises:
        FileNotFoundError: A split is missing.
        ValueError: Numbers and names of classes are mixed.
    """
    long = (task / 'train800').is_dir()
    names = {split: files[0 if long else 1] for split, files in LISTS.items()}
    folders = {
        split: task / names[split].removesuffix('.txt') for split in ('train', 'val', 'test')
    }
    for folder in folders.values():
        if not folder.is_dir():
            raise FileNotFoundError(
                f'{folder} does not exist: it must hold a folder for every class'
            )
    classes = {
        split: sorted(path.name for path in folder.iterdir() if path.is_dir())
        for split, folder in folders.items()
    }
    label_of = number_classes(task, {name for found in classes.values() for name in found})
    lines = {
        names[split]: [
            f'{path.relative_to(task).as_posix()} {label_of[name]}'
            for name in classes[split]
            for path in sorted((folder / name).rglob('*'))
            if path.suffix.lower() in IMAGE_SUFFIXES
        ]
        for split, folder in folders.items()
    }
    lines[names['trainval']] = lines[names['train']] + lines[names['val']]
    return lines


def number_classes(task: Path, names: set[str]) -> dict[str, int]:
    """Label of every class."""
    numbers = [name for name in names if name.isdigit()]
    if numbers and len(numbers) < len(names):
        other = min(names - set(numbers))
        raise ValueError(f'{task}: names of classes mix numbers and words: {min(numbers)}, {other}')
    if numbers:
        return {name: int(name) for name in names}
    return {name: label for label, name in enumerate(sorted(names))}


def convert(task: Path) -> None:
    """Write the lists of a task unless it has some, and check them."""
    if any((task / file).exists() for files in LISTS.values() for file in files):
        written = 'had'
    else:
        written = 'got'
        for name, lines in list_task(task).items():
            write_atomically(('\n'.join(lines) + '\n').encode(), str(task / name))
    sizes = {split: len(VTAB(str(task.parent), task.name, split, pipeline=[])) for split in LISTS}
    print(f'{task.name} {written} lists: ' + ', '.join(f'{n} {s}' for s, n in sizes.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', type=Path, help='folder of the tasks')
    parser.add_argument('--tasks', nargs='+', help='folders in it; default: all')
    args = parser.parse_args()
    if not args.source.is_dir():
        parser.error(f'{args.source} is not a folder')
    tasks = args.tasks or sorted(path.name for path in args.source.iterdir() if path.is_dir())
    for task in tasks:
        try:
            convert(args.source / task)
        except (FileNotFoundError, ValueError, WriteError) as error:
            sys.exit(f'{error}; existing lists are kept: delete them to make all of them again')


if __name__ == '__main__':
    main()
