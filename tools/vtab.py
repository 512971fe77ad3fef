"""The protocol of VTAB-1k: search on 800 and 200 images, five seeds on all 1000, a table.

Runs that have finished are not repeated, whatever interrupts this. Data of one's own takes part by
a folder of the same layout: <data root>/<name>/{train,val,trainval,test}.txt.

Example:
    python tools/vtab.py configs/vtab/toast-last_vit-b16-in21k_1xb32-100e_vtab-224x224.py \
        --data-root data/vtab-1k --tasks cifar dtd --gpus 0 1 2 3
"""

from __future__ import annotations

import argparse
import itertools
import os.path as osp
import sys
from typing import Any

from mmengine.config import Config, DictAction

import toast_mm  # noqa: F401  registers the parts
from toast_mm.datasets.vtab import LISTS, VTAB, VTAB_TASKS, number_of_classes
from toast_mm.evaluation import Task, run_protocol
from toast_mm.evaluation.vtab import table
from toast_mm.files import whole_file


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', nargs='?', help='config file of any task')
    parser.add_argument('--list', action='store_true', help='print the names of the tasks')
    parser.add_argument('--data-root', default='data/vtab-1k', help='folder of the tasks')
    parser.add_argument('--tasks', nargs='+', default=list(VTAB_TASKS), help='default: all 19')
    parser.add_argument('--out-dir', help='folder of the runs; work_dirs/<config name>')
    parser.add_argument('--gpus', nargs='+', default=[], help='GPUs to run on')
    parser.add_argument(
        '--workers', type=int, help='runs at a time; default: one for every GPU, or one'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, help='settings of all runs'
    )
    args = parser.parse_args()
    if args.list:
        print('\n'.join(VTAB_TASKS))
        sys.exit()
    if args.config is None:
        parser.error('name a config file, or --list')
    if not osp.isfile(args.config):
        parser.error(f'config file {args.config} does not exist')
    args.workers = args.workers or max(1, len(args.gpus))
    return args


def check_data(data_root: str, tasks: list[str]) -> None:
    """Read every list before the first run: mistakes are named now, and not after hours."""
    for task in tasks:
        try:
            for split in LISTS:
                VTAB(data_root, task, split, pipeline=[])
        except (FileNotFoundError, ValueError) as error:
            sys.exit(str(error))


def make_task(name: str, args: argparse.Namespace, search: dict[str, list]) -> Task:
    """One task, with the settings that its data needs."""
    classes = number_of_classes(args.data_root, name)
    data = {'data_root': args.data_root, 'task': name}
    options = {
        **{f'{loader}_dataloader.dataset.{key}': data[key] for loader in PARTS for key in data},
        'model.head.num_classes': classes,
        'model.data_preprocessor.num_classes': classes,
        **args.cfg_options,
    }
    grid = [
        {'optim_wrapper.optimizer.lr': lr, 'optim_wrapper.optimizer.weight_decay': decay}
        for lr, decay in itertools.product(sorted(search['lr']), search['weight_decay'])
    ]
    return Task(
        name,
        args.config,
        options,
        search=splits('train', 'val'),
        final=splits('trainval', 'test'),
        grid=grid,
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
    check_data(args.data_root, args.tasks)
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    if 'search' not in cfg:
        sys.exit(f'{args.config} has no search=dict(lr=[...], weight_decay=[...], seeds=[...])')
    stem = osp.splitext(osp.basename(args.config))[0]
    out_dir = args.out_dir or osp.join('work_dirs', stem)
    tasks = [make_task(name, args, cfg.search) for name in args.tasks]
    try:
        outcomes = run_protocol(
            tasks, cfg.search['seeds'], out_dir, workers=args.workers, devices=args.gpus
        )
    except KeyboardInterrupt:
        print(f'\ninterrupted; the same command goes on: what has finished is in {out_dir}')
        sys.exit(130)
    text = table(outcomes)
    with whole_file(osp.join(out_dir, 'table.md')) as partial, open(partial, 'w') as file:
        file.write(text + '\n')
    print(f'\n{text}\n\nThe table is in {osp.join(out_dir, "table.md")}')


if __name__ == '__main__':
    main()
