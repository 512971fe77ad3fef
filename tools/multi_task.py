"""Predict several tasks for the same images; the first pass of the backbone is computed once.

Prints a table of classes and scores. For segmentors, it writes label maps and shows the classes of
the largest areas.

Example:
    python tools/multi_task.py pictures/*.jpg \
        --task birds configs/birds.py birds.safetensors --task cars configs/cars.py cars.safetensors
"""

from __future__ import annotations

import argparse
import os.path as osp
import sys
from pathlib import Path

from prettytable import PrettyTable

from toast_mm.apis import Classification, Segmentation, Tasks, load
from toast_mm.checkpoint import CheckpointError
from toast_mm.command_line import is_file
from toast_mm.files import make_folder
from toast_mm.outputs import add_overwrite, check_free


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('images', nargs='+', help='image files')
    parser.add_argument(
        '--task',
        nargs=3,
        action='append',
        required=True,
        metavar=('NAME', 'CONFIG', 'CHECKPOINT'),
        help='a task; repeat for every task',
    )
    parser.add_argument('--device', default='cpu', help='device; default: cpu')
    parser.add_argument(
        '--out-dir', default='work_dirs/multi_task', help='folder of label maps of segmentors'
    )
    add_overwrite(parser)
    args = parser.parse_args()
    names = [name for name, _, _ in args.task]
    if repeated := {name for name in names if names.count(name) > 1}:
        parser.error(f'--task {repeated.pop()} is given twice: every task needs its own name')
    for _, config, checkpoint in args.task:
        if not osp.isfile(config):
            parser.error(f'config file {config} does not exist')
        if not is_file(checkpoint):
            parser.error(f'checkpoint {checkpoint} does not exist')
    if missing := [image for image in args.images if not osp.isfile(image)]:
        parser.error(f'image {missing[0]} does not exist')
    return args


def load_tasks(args: argparse.Namespace) -> Tasks:
    """Load the tasks, or exit with a sentence that names the wrong one."""
    predictors = {}
    for name, config, checkpoint in args.task:
        try:
            predictors[name] = load(config, checkpoint, args.device)
        except (CheckpointError, RuntimeError, ValueError) as error:
            sys.exit(f'task {name!r}: {" ".join(str(error).split())}')
    return Tasks(predictors)


def describe(result: Classification | Segmentation) -> str:
    """Describe a prediction in a few words."""
    if isinstance(result, Segmentation):
        largest = [*result.areas.items()][:3]
        return ', '.join(f'{name} {share:.0%}' for name, share in largest)
    return f'{result.label} ({result.score:.2f})'


def main() -> None:
    args = parse_args()
    try:
        tasks = load_tasks(args)
        stems = [f'{number:04}_{Path(image).stem}.png' for number, image in enumerate(args.images)]
        label_maps = {
            name: [Path(args.out_dir, name, stem) for stem in stems]
            for name, predictor in tasks.items()
            if predictor.is_segmentor
        }
        check_free(
            (file for files in label_maps.values() for file in files),
            (*args.images, *(file for _, *files in args.task for file in files)),
            args.overwrite,
            new_folders=True,
        )
        results = tasks.predict(args.images)
        for name, files in label_maps.items():
            for file, result in zip(files, results[name], strict=True):
                make_folder(file.parent)
                result.save_mask(file)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    table = PrettyTable(['image', *tasks], align='l')
    for number, image in enumerate(args.images):
        table.add_row([image, *(describe(found[number]) for found in results.values())])
    print(table)


if __name__ == '__main__':
    main()
