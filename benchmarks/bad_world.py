"""Folders, clean jobs and tools that the families of bad_inputs.py share."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import random
import runpy
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

from judging import WrongResultError
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from small_jobs import ROOT, write_config, write_images, write_masks
from torch import Tensor

from toast_mm.checkpoint import load_from_local
from toast_mm.engine.config import apply_options, read_config
from toast_mm.samples import split_dataset


class World:
    """A folder in which bad inputs are made; everything random comes from a seed.

    Attributes:
        folder: The folder.
        random: Generator of random numbers.
        images: Clean images of :func:`small_jobs.write_images`.
        masks: Clean images and masks of :func:`small_jobs.write_masks`.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.images, self.masks = folder / 'clean_images', folder / 'clean_masks'
        write_images(self.images)
        write_masks(self.masks)
        self._numbers = itertools.count()

    def fresh(self) -> Path:
        """A new, empty folder."""
        path = self.folder / f'{next(self._numbers):04}'
        path.mkdir()
        return path

    def remove(self) -> None:
        """Remove the folders of :meth:`fresh`; those of clean jobs stay."""
        for path in self.folder.glob('[0-9]' * 4):
            shutil.rmtree(path)

    def tool(self, name: str, *arguments: Any) -> None:
        """Run a tool in this process, as in a new one."""
        script = ROOT / 'tools' / f'{name}.py'
        for manager in (DefaultScope, MessageHub, MMLogger, *_subclasses(Visualizer)):
            manager._instance_dict.clear()
        with (
            mock.patch.object(sys, 'argv', [str(script), *map(str, arguments)]),
            mock.patch.object(sys, 'stdin', io.StringIO()),  # which exit() closes
            mock.patch.object(sys, 'path', [str(script.parent), *sys.path]),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter('ignore')
            try:
                runpy.run_path(str(script), run_name='__main__')
            except SystemExit as end:
                if end.code:
                    raise

    def silent_train(self, config: Path) -> None:
        """Train a clean job, which must work."""
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self.train(config)

    def train(self, config: Path, **options: Any) -> dict[str, Tensor]:
        """Train by ``tools/train.py``, and return the weights of the first epoch."""
        work_dir = config.parent / 'trained'
        settings = [f'{key}={value}' for key, value in options.items()]
        settings = ['--cfg-options', *settings] if settings else []
        self.tool('train', config, '--work-dir', work_dir, *settings)
        return load_from_local(str(work_dir / 'epoch_1.pth'))['state_dict']

    @functools.cached_property
    def trained(self) -> Path:
        """Folder of a clean training: ``short.py``, ``trained/epoch_1.pth``, and its images."""
        folder = self.folder / 'clean_training'
        self.silent_train(write_config('short', self.images, folder))
        return folder

    @functools.cached_property
    def trained_segmentor(self) -> Path:
        """Folder of a clean training: ``segmentation.py``, ``trained/epoch_1.pth``."""
        folder = self.folder / 'clean_segmentation'
        self.silent_train(write_config('segmentation', self.masks, folder))
        return folder

    def copy(self, clean: Path) -> Path:
        """A copy of a clean folder."""
        folder = self.fresh() / clean.name.removeprefix('clean_')
        shutil.copytree(clean, folder)
        return folder


def samples(config: Path, **options: Any) -> Any:
    """The training data of a config."""
    cfg = read_config(str(config))
    apply_options(cfg, options)
    return split_dataset(cfg, 'train')


def check_equal(found: dict[str, Tensor], expected: dict[str, Tensor], what: str) -> None:
    """Raise an error unless weights are equal bit for bit."""
    if found.keys() != expected.keys():
        raise WrongResultError(f'{what}: other weights are tuned')
    for name, tensor in found.items():
        if not tensor.equal(expected[name]):
            raise WrongResultError(f'{what}: weight {name} is not that of the right input')


def _subclasses(cls: type) -> list[type]:
    return [cls, *(below for child in cls.__subclasses__() for below in _subclasses(child))]
