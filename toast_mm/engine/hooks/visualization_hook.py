"""Pictures of predictions, with a different name for every image."""

from __future__ import annotations

import os.path as osp
from collections.abc import Sequence
from typing import Any

import mmpretrain.engine
from mmengine.runner import Runner
from mmpretrain.structures import DataSample

from toast_mm.registry import HOOKS


@HOOKS.register_module()
class VisualizationHook(mmpretrain.engine.VisualizationHook):
    """mmpretrain's ``VisualizationHook`` that supports equal file names in different folders.

    mmpretrain names a picture by the file name of the image, without the folder: the picture of
    ``red/1.png`` overwrites that of ``green/1.png``. If names repeat in a data set, this hook puts
    the number of the sample before them: ``0_1.png``. ``toast_mm.Runner`` uses this hook if a
    config names mmpretrain's.
    """

    _names: dict[str, str] = {}

    def before_val_epoch(self, runner: Runner) -> None:
        """Name the pictures of the validation images."""
        self._names = _picture_names(runner.val_dataloader.dataset) if self.enable else {}

    def before_test_epoch(self, runner: Runner) -> None:
        """Name the pictures of the test images."""
        self._names = _picture_names(runner.test_dataloader.dataset) if self.enable else {}

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[DataSample]
    ) -> None:
        """Draw the predictions of a batch."""
        super().after_val_iter(runner, batch_idx, data_batch, self._named(outputs))

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[DataSample]
    ) -> None:
        """Draw the predictions of a batch."""
        super().after_test_iter(runner, batch_idx, data_batch, self._named(outputs))

    def _named(self, samples: Sequence[DataSample]) -> Sequence[DataSample]:
        """Copy samples with the name of the picture as ``img_path``, which mmpretrain uses."""
        if not self._names:
            return samples
        named = [sample.clone() for sample in samples]
        for sample in named:
            path = sample.get('img_path')
            sample.set_metainfo(dict(img_path=self._names.get(path, path)))
        return named


def _picture_names(dataset: Any) -> dict[str, str]:
    """Names of pictures by path of the image; empty if the names of the images are unique."""
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    numbers = {info['img_path']: n for n, info in enumerate(infos) if info.get('img_path')}
    if len({osp.basename(path) for path in numbers}) == len(numbers):
        return {}
    return {path: f'{number}_{osp.basename(path)}' for path, number in numbers.items()}
