"""Run the protocol of VTAB-1k: search on 800 and 200 images, then five seeds on all 1000.

Prints a table. Finished runs are not repeated after an interruption. To add your own data, make a
folder of the same layout: <data root>/<name>/{train,val,trainval,test}.txt.

Example:
    python tools/vtab.py configs/vtab/toast-last_vit-b16-in21k_1xb32-100e_vtab-224x224.py \
        --data-root data/vtab-1k --tasks cifar dtd --gpus 0 1 2 3
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from typing import Any

from toast_mm.datasets.vtab import LISTS, VTAB, VTAB_TASKS, list_file, number_of_classes
from toast_mm.engine.config import DATASET, ConfigError
from toast_mm.experiments import Task
from toast_mm.experiments.cli import add_arguments, grid, load_config, run_and_report
from toast_mm.experiments.cluster import JobError
from toast_mm.experiments.vtab_table import table
from toast_mm.files import WriteError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', nargs='?', help='config file of any task')
    parser.add_argument('--list', action='store_true', help='print the names of the tasks')
    parser.add_argument('--data-root', default='data/vtab-1k', help='folder of the tasks')
    parser.add_argument(
        '--tasks', nargs='+', help=f'default: that of the environment variable {DATASET}, or all 19'
    )
    add_arguments(parser)
    args = parser.parse_args()
    if args.list:
        print('\n'.join(VTAB_TASKS))
        sys.exit()
    if args.config is None:
        parser.error('name a config file, or --list')
    if args.tasks is None:
        args.tasks = [os.environ[DATASET]] if DATASET in os.environ else VTAB_TASKS
    args.tasks = list(dict.fromkeys(args.tasks))
    return args


def check_data(data_root: str, tasks: list[str]) -> None:
    """Read every list before the first run, so that mistakes show at once."""
    for task in tasks:
        try:
            for split in LISTS:
                VTAB(data_root, task, split, pipeline=[])
        except (FileNotFoundError, ValueError) as error:
            sys.exit(str(error))


def make_task(name: str, args: argparse.Namespace, search: Mapping[str, Any]) -> Task:
    """Make a task with the settings that its data need."""
    classes = number_of_classes(args.data_root, name)
    data = {'data_root': args.data_root, 'task': name}
    options = {
        **{f'{loader}_dataloader.dataset.{key}': data[key] for loader in PARTS for key in data},
        # With their content in the digest, runs on older lists are repeated.
        'lists': [list_file(args.data_root, name, split) for split in LISTS],
        'task': name,
        'num_classes': classes,
        'model.head.num_classes': classes,
        'model.data_preprocessor.num_classes': classes,
        **args.cfg_options,
    }
    return Task(
        name,
        args.config,
        options,
        search=splits('train', 'val'),
        final=splits('trainval', 'test'),
        grid=grid(search),
        info=dict(task=name),
    )


PARTS = ('train', 'val', 'test')


def splits(train: str, val: str) -> dict[str, Any]:
    """Settings that train and validate on these parts of the data."""
    return {
        'train_dataloader.dataset.split': train,
        'val_dataloader.dataset.split': val,
        'test_dataloader.dataset.split': val,
    }


def main() -> None:
    args = parse_args()
    try:
        search = load_config(args).search
        check_data(args.data_root, args.tasks)
        tasks = [make_task(name, args, search) for name in args.tasks]
        run_and_report(tasks, search, table, args)
    except (ConfigError, JobError, WriteError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == '__main__':
    main()
