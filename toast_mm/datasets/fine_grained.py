"""The five data sets of fine-grained classification (FGVC), from original files or split files.

Split files are ``{train,val,test}.json`` with ``{relative path: class id}``, as the
benchmark of `Visual Prompt Tuning <https://arxiv.org/abs/2203.12119>`_ defines them.
"""

from __future__ import annotations

import json
import os.path as osp
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mat4py
import mmpretrain.datasets
from mmpretrain.datasets import BaseDataset

from toast_mm.registry import DATASETS
from toast_mm.text_files import read_text

SPLITS = ('train', 'val', 'trainval', 'test')


class SplitFiles(BaseDataset):
    """Mixin of a data set that reads split files if there are any, else the original layout.

    The class ids of all split files together are mapped to 0, 1, ... in ascending
    order. ``'trainval'`` is ``trainval.json``, or ``train.json`` and ``val.json``
    together. If an original layout has no validation part, both ``'trainval'``
    and ``'train'`` are the whole training part.

    Args:
        data_root: Folder of the data set.
        split: ``'train'``, ``'val'``, ``'trainval'`` or ``'test'``. Defaults to
            ``'trainval'``.
        **kwargs: Arguments of the data set.

    Raises:
        FileNotFoundError: A file is missing; the message names it and all that would do.
        ValueError: There is no such split.
    """

    # Folder of the images; paths in split files are relative to it.
    image_folder: str
    # Files of the original layouts: all of one layout must exist.
    layouts: Sequence[Sequence[str]]
    # Our names of the splits to the parent class's.
    parent_splits: Mapping[str, str] = {'train': 'train', 'trainval': 'train', 'test': 'test'}

    def __init__(self, data_root: str, split: str = 'trainval', **kwargs: Any) -> None:
        if split not in SPLITS:
            raise ValueError(f'split={split!r} must be one of {SPLITS}')
        self.split = split
        self.split_files = find_split_files(data_root, split)
        if self.split_files:
            self.label_of = map_classes(data_root)
            classes = self.METAINFO.get('classes', ())
            if len(classes) != len(self.label_of):
                kwargs.setdefault('metainfo', dict(classes=[str(id) for id in self.label_of]))
            BaseDataset.__init__(
                self, ann_file='', data_root=data_root, data_prefix=self.image_folder, **kwargs
            )
        else:
            self._check_layout(data_root)
            super().__init__(data_root=data_root, split=self.parent_splits[split], **kwargs)

    def load_data_list(self) -> list[dict]:
        """Paths of the images and their labels."""
        if not self.split_files:
            return super().load_data_list()
        return [
            dict(img_path=_existing(file, self.img_prefix, path), gt_label=self.label_of[label])
            for file in self.split_files
            for path, label in read_split_file(file).items()
        ]

    def _check_layout(self, data_root: str) -> None:
        missing = [
            [name for name in layout if not osp.exists(osp.join(data_root, name))]
            for layout in self.layouts
        ]
        closest = min(missing, key=len)
        layouts = ', or '.join(' '.join(layout) for layout in self.layouts)
        wanted = 'train.json and val.json' if self.split == 'trainval' else ''
        wanted = f'{self.split}.json{" or " * bool(wanted)}{wanted}'
        if closest:
            raise FileNotFoundError(
                f'{type(self).__name__}: {osp.join(data_root, closest[0])} does not exist. '
                f'{data_root} must hold the original files ({layouts}), or the split file {wanted} '
                f'and the images in {osp.join(data_root, self.image_folder)}'
            )
        if self.split not in self.parent_splits:
            raise ValueError(
                f'{type(self).__name__}: the original layout in {data_root} has no split '
                f'{self.split!r}, but {", ".join(self.parent_splits)}; put train.json, val.json '
                'and test.json there to define the splits'
            )


def find_split_files(data_root: str, split: str) -> list[str]:
    """Split files of a split; none if the folder has no split files at all.

    Raises:
        FileNotFoundError: There are split files, but none of this split. The original layout is not
            used then, since its splits may differ.
    """
    whole = osp.join(data_root, f'{split}.json')
    if osp.exists(whole):
        return [whole]
    parts = [osp.join(data_root, f'{part}.json') for part in ('train', 'val')]
    if split == 'trainval' and all(map(osp.exists, parts)):
        return parts
    others = [f'{name}.json' for name in SPLITS if osp.exists(osp.join(data_root, f'{name}.json'))]
    if others:
        raise FileNotFoundError(
            f'{whole} does not exist, but {", ".join(others)}: if one split has a file, all splits '
            'need one'
        )
    return []


def map_classes(data_root: str) -> dict[int, int]:
    """Map the class ids of all split files to labels.

    Raises:
        ValueError: An image is in two of train, val and test.
    """
    ids: set[int] = set()
    split_of: dict[str, str] = {}
    for split in SPLITS:
        file = osp.join(data_root, f'{split}.json')
        content = read_split_file(file) if osp.exists(file) else {}
        ids.update(content.values())
        for path in content if split != 'trainval' else ():
            if split_of.setdefault(path, split) != split:
                raise ValueError(f'{file}: {path} is in {split_of[path]}.json as well')
    return {id: label for label, id in enumerate(sorted(ids))}


def _existing(file: str, folder: str, path: str) -> str:
    """Path of an image that a split file names."""
    path = osp.join(folder, path)
    if not osp.exists(path):
        raise FileNotFoundError(f'{file} names {path}, which does not exist')
    return path


def read_split_file(file: str) -> dict[str, int]:
    """``{relative path: class id}``.

    Raises:
        ValueError: The file holds something else; the message names it.
    """
    text = read_text(file)
    try:
        return {
            path: _class_id(path, id)
            for path, id in json.loads(text, object_pairs_hook=_once).items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{file} is not a split file, {{"relative path": class id, ...}}: {error}'
        ) from error


def _once(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    """Entries of a JSON object, of which the last of equal names would replace the others."""
    found: dict[str, Any] = {}
    for name, value in entries:
        if found.setdefault(name, value) != value:
            raise ValueError(f'{name} has the values {found[name]!r} and {value!r}')
    return found


def _class_id(path: str, value: Any) -> int:
    """A class id, as a number or in quotes."""
    if isinstance(value, bool) or not str(value).isdecimal():
        raise ValueError(f'{path} has the class id {value!r}, which must be 0, 1, ...')
    return int(value)


@DATASETS.register_module()
class CUB(SplitFiles, mmpretrain.datasets.CUB):
    """CUB-200-2011 (200 birds); see :class:`SplitFiles`."""

    image_folder = 'images'
    layouts = (('images.txt', 'image_class_labels.txt', 'train_test_split.txt', 'images'),)


@DATASETS.register_module()
class Flowers102(SplitFiles, mmpretrain.datasets.Flowers102):
    """Oxford Flowers (102 species); see :class:`SplitFiles`."""

    image_folder = ''
    layouts = (('imagelabels.mat', 'setid.mat', 'jpg'),)
    parent_splits = {split: split for split in SPLITS}


@DATASETS.register_module()
class StanfordCars(SplitFiles, mmpretrain.datasets.StanfordCars):
    """Stanford Cars (196 models); see :class:`SplitFiles`."""

    image_folder = ''
    layouts = (
        ('cars_annos.mat',),
        (
            'devkit/cars_train_annos.mat',
            'devkit/cars_test_annos_withlabels.mat',
            'cars_train',
            'cars_test',
        ),
    )


class _ListedDataset(BaseDataset):
    """Base of data sets that mmpretrain lacks; subclasses read paths and labels of a split."""

    split: str
    image_folder: str

    def __init__(self, data_root: str, split: str, **kwargs: Any) -> None:
        super().__init__(ann_file='', data_root=data_root, data_prefix=self.image_folder, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Paths of the images and their labels."""
        return [
            dict(img_path=osp.join(self.img_prefix, path), gt_label=label)
            for path, label in self._samples()
        ]

    def _samples(self) -> Iterator[tuple[str, int]]:
        raise NotImplementedError


@DATASETS.register_module()
class NABirds(SplitFiles, _ListedDataset):
    """NABirds (555 birds); see :class:`SplitFiles`.

    Layout: ``images/``, ``images.txt``, ``image_class_labels.txt`` and ``train_test_split.txt``.
    Their lines hold the id of an image and its path, its class id, or 1 if it is for training.
    Class ids belong to a hierarchy; the 555 that have images are mapped to 0..554 in ascending
    order.
    """

    image_folder = 'images'
    layouts = (('images.txt', 'image_class_labels.txt', 'train_test_split.txt', 'images'),)

    def _samples(self) -> Iterator[tuple[str, int]]:
        paths, ids, in_training = (
            dict(line.split(maxsplit=1) for line in _lines(osp.join(self.data_root, name)))
            for name in ('images.txt', 'image_class_labels.txt', 'train_test_split.txt')
        )
        label_of = {id: label for label, id in enumerate(sorted(set(ids.values()), key=int))}
        for image, path in paths.items():
            if (in_training[image] == '1') == (self.split != 'test'):
                yield path, label_of[ids[image]]


@DATASETS.register_module()
class StanfordDogs(SplitFiles, _ListedDataset):
    """Stanford Dogs (120 breeds); see :class:`SplitFiles`.

    Layout: ``Images/``, ``train_list.mat`` and ``test_list.mat``.
    """

    image_folder = 'Images'
    layouts = (('train_list.mat', 'test_list.mat', 'Images'),)

    def _samples(self) -> Iterator[tuple[str, int]]:
        name = 'test_list.mat' if self.split == 'test' else 'train_list.mat'
        content = mat4py.loadmat(osp.join(self.data_root, name))
        for path, label in zip(content['file_list'], content['labels'], strict=True):
            yield _item(path), int(_item(label)) - 1


def _lines(file: str) -> Iterator[str]:
    for line in read_text(file).splitlines():
        if line.strip():
            yield line.strip()


def _item(value: Any) -> Any:
    """Content of a cell of a MATLAB array."""
    return _item(value[0]) if isinstance(value, list) else value
