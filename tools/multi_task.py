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

import cv2
import numpy as np
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement
from mmengine.utils import track_iter_progress
from PIL import Image
from prettytable import PrettyTable

from toast_mm.apis import MultiTask
from toast_mm.checkpoint import CheckpointError
from toast_mm.command_line import is_file
from toast_mm.files import WriteError, atomic_write
from toast_mm.outputs import add_overwrite, check_free
from toast_mm.registry import type_name


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


def common_pipeline(configs: dict[str, Config]) -> Compose:
    """Build the common test transforms of all tasks, without annotations.

    Raises:
        ValueError: The transforms differ.
    """
    steps = {}
    for name, cfg in configs.items():
        pipeline = cfg.test_dataloader.dataset.pipeline
        steps[name] = [step for step in pipeline if type_name(step) != 'LoadAnnotations']
    first, *others = steps
    for other in others:
        if steps[other] != steps[first]:
            raise ValueError(
                f'tasks {first!r} and {other!r} prepare images by different transforms: '
                f'{steps[first]} and {steps[other]}; tasks that share a first pass must see the '
                'same images'
            )
    with DefaultScope.overwrite_default_scope(configs[first].default_scope):
        return Compose(steps[first])


def describe(result: BaseDataElement, classes: list[str], label_map: Path) -> str:
    """Describe a prediction in a few words; write the label map of a segmentor."""
    if 'pred_sem_seg' not in result:
        label = int(result.pred_label)
        return f'{class_name(classes, label)} ({result.pred_score.max():.2f})'
    labels = result.pred_sem_seg.data[0].cpu().numpy()
    labels = labels.astype(np.uint8 if labels.max() < 256 else np.uint16)
    with atomic_write(str(label_map)) as partial:
        label_map.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(partial)
    areas = np.bincount(labels.ravel()) / labels.size
    largest = areas.argsort()[::-1][:3]
    return ', '.join(f'{class_name(classes, c)} {areas[c]:.0%}' for c in largest if areas[c])


def class_name(classes: list[str], label: int) -> str:
    return classes[label] if label < len(classes) else str(label)


def main() -> None:
    args = parse_args()
    tasks = MultiTask(args.device)
    configs = {name: Config.fromfile(config) for name, config, _ in args.task}
    try:
        for name, _, checkpoint in args.task:
            try:
                tasks.add(name, configs[name], checkpoint)
            except (CheckpointError, RuntimeError) as error:
                sys.exit(f'task {name!r}, {checkpoint}: {" ".join(str(error).split())}')
        pipeline = common_pipeline(configs)
        stems = [f'{number:04}_{Path(image).stem}.png' for number, image in enumerate(args.images)]
        label_maps = {name: [Path(args.out_dir, name, stem) for stem in stems] for name in tasks}
        segmentors = [name for name in tasks if hasattr(tasks[name], 'decode_head')]
        check_free(
            (file for name in segmentors for file in label_maps[name]),
            (*args.images, *(file for _, *files in args.task for file in files)),
            args.overwrite,
        )
    except (ValueError, WriteError) as error:
        sys.exit(str(error))
    table = PrettyTable(['image', *tasks], align='l')
    for number, image in enumerate(track_iter_progress(args.images)):
        try:
            sample = pipeline(dict(img_path=image))
        except (AssertionError, ValueError, OSError, cv2.error) as error:
            sys.exit(f'{image} is not an image that the tasks can read: {error}')
        results = tasks(pseudo_collate([sample]))
        row = [image]
        for name in tasks:
            classes = tasks[name].dataset_meta.get('classes', [])
            try:
                row.append(describe(results[name][0], classes, label_maps[name][number]))
            except WriteError as error:
                sys.exit(str(error))
        table.add_row(row)
    print(f'\n{table}')


if __name__ == '__main__':
    main()
