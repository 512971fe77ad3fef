"""VTAB-1k: 19 tasks of 1000 training images, as lists of files.

Zhai et al., `The Visual Task Adaptation Benchmark <https://arxiv.org/abs/1910.04867>`_.
"""

from __future__ import annotations

import os.path as osp
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from mmpretrain.datasets import BaseDataset

from toast_mm.registry import DATASETS
from toast_mm.text_files import read_text


@dataclass(frozen=True)
class VTABTask:
    """Facts about a task.

    Attributes:
        title: Its name in tables.
        group: ``'Natural'``, ``'Specialized'`` or ``'Structured'``.
        num_classes: Number of classes.
    """

    title: str
    group: str
    num_classes: int


# In the order of the tables of the paper.
VTAB_TASKS = {
    'cifar': VTABTask('CIFAR-100', 'Natural', 100),
    'caltech101': VTABTask('Caltech101', 'Natural', 102),
    'dtd': VTABTask('DTD', 'Natural', 47),
    'oxford_flowers102': VTABTask('Flowers102', 'Natural', 102),
    'oxford_iiit_pet': VTABTask('Pets', 'Natural', 37),
    'svhn': VTABTask('SVHN', 'Natural', 10),
    'sun397': VTABTask('Sun397', 'Natural', 397),
    'patch_camelyon': VTABTask('Patch Camelyon', 'Specialized', 2),
    'eurosat': VTABTask('EuroSAT', 'Specialized', 10),
    'resisc45': VTABTask('Resisc45', 'Specialized', 45),
    'diabetic_retinopathy': VTABTask('Retinopathy', 'Specialized', 5),
    'clevr_count': VTABTask('Clevr/count', 'Structured', 8),
    'clevr_dist': VTABTask('Clevr/distance', 'Structured', 6),
    'dmlab': VTABTask('DMLab', 'Structured', 6),
    'kitti': VTABTask('KITTI/distance', 'Structured', 4),
    'dsprites_loc': VTABTask('dSprites/location', 'Structured', 16),
    'dsprites_ori': VTABTask('dSprites/orientation', 'Structured', 16),
    'smallnorb_azi': VTABTask('SmallNORB/azimuth', 'Structured', 18),
    'smallnorb_ele': VTABTask('SmallNORB/elevation', 'Structured', 9),
}

IMAGE_SUFFIXES = {'.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.pgm', '.tif', '.tiff'}

# Names of the list of a split: VTAB-1k's, and a general one for other data.
LISTS = {
    'train': ('train800.txt', 'train.txt'),
    'val': ('val200.txt', 'val.txt'),
    'trainval': ('train800val200.txt', 'trainval.txt'),
    'test': ('test.txt', 'test.txt'),
}


@DATASETS.register_module()
class VTAB(BaseDataset):
    """A task of VTAB-1k, or your own data in the same layout.

    ``<data_root>/<task>/{train800,val200,train800val200,test}.txt`` (or
    ``{train,val,trainval,test}.txt``) have lines ``relative/path label``. Paths
    are relative to the folder of the task; labels count from 0.

    Args:
        data_root: Folder of the tasks.
        task: Folder of the task.
        split: ``'train'``, ``'val'``, ``'trainval'`` or ``'test'``.
        num_classes: Number of classes. None takes it from :data:`VTAB_TASKS`, or
            counts the labels in the lists if the task is not one of these.
        **kwargs: Arguments of mmpretrain's data sets.

    Raises:
        FileNotFoundError: A folder, list or image is missing; the message names it, and
            for an unknown task similar names.
        ValueError: A line is not a path and a label, or a label is outside the classes; the
            message names the line.
    """

    def __init__(
        self,
        data_root: str,
        task: str,
        split: str,
        num_classes: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.folder = osp.join(data_root, task)
        self.file = list_file(data_root, task, split)
        num_classes = num_classes or number_of_classes(data_root, task)
        kwargs.setdefault('metainfo', dict(classes=[str(label) for label in range(num_classes)]))
        super().__init__(ann_file='', data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Paths and labels, checked."""
        samples = []
        number = len(self.metainfo['classes'])
        for line, path, label in read_list(self.file):
            path = osp.join(self.folder, path)
            if not 0 <= label < number:
                raise ValueError(
                    f'{self.file}, line {line}: label {label} is outside the {number} classes, '
                    f'0..{number - 1}'
                )
            if not osp.exists(path):
                raise FileNotFoundError(f'{self.file}, line {line}: {path} does not exist')
            samples.append(dict(img_path=path, gt_label=label))
        return samples


def list_file(data_root: str, task: str, split: str) -> str:
    """Path of the list of a split of a task.

    Raises:
        FileNotFoundError: There is no such task, or no such list.
        ValueError: There is no such split.
    """
    if split not in LISTS:
        raise ValueError(f'split={split!r} must be one of {tuple(LISTS)}')
    folder = osp.join(data_root, task)
    if not osp.isdir(folder):
        names = {known.title.lower(): name for name, known in VTAB_TASKS.items()}
        names |= {name: name for name in VTAB_TASKS}
        matches = get_close_matches(task.lower(), names, n=3, cutoff=0.4)
        similar = list(dict.fromkeys(names[match] for match in matches))
        hint = '' if task in VTAB_TASKS else f'; tasks of similar names: {", ".join(similar)}'
        raise FileNotFoundError(f'{folder} does not exist{hint if similar else ""}')
    files = [osp.join(folder, name) for name in dict.fromkeys(LISTS[split])]
    for file in files:
        if osp.exists(file):
            return file
    raise FileNotFoundError(f'the {split} list of {task} does not exist: {" or ".join(files)}')


def number_of_classes(data_root: str, task: str) -> int:
    """Number of classes of a task of VTAB-1k; for other tasks the largest label plus 1."""
    if task in VTAB_TASKS:
        return VTAB_TASKS[task].num_classes
    files = (list_file(data_root, task, split) for split in ('trainval', 'test'))
    return 1 + max(label for file in files for _, _, label in read_list(file))


def read_list(file: str) -> list[tuple[int, str, int]]:
    """Number, path and label of every line.

    Raises:
        ValueError: The file is no text or empty, or a line is not a path and a label.
    """
    samples = []
    for number, line in enumerate(read_text(file).split('\n'), start=1):
        path, _, label = line.strip().rpartition(' ')
        if not line.strip():
            continue
        if not path or not label.removeprefix('-').isdecimal():
            raise ValueError(f'{file}, line {number}: {line.strip()[:200]!r} is not "path label"')
        samples.append((number, path, int(label)))
    if not samples:
        raise ValueError(f'{file} is empty')
    return samples
