"""Pictures of predictions: of images of any number of bands, with a name for every image."""

from __future__ import annotations

import os.path as osp
from collections.abc import Sequence
from typing import Any

import mmpretrain.engine
import mmseg.engine
import torch
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

from toast_mm.datasets import LoadBandsFromFile
from toast_mm.engine.bands import band_loader
from toast_mm.registry import HOOKS


@HOOKS.register_module()
class VisualizationHook(mmpretrain.engine.VisualizationHook):
    """mmpretrain's ``VisualizationHook`` that supports equal file names in different folders.

    mmpretrain names a picture by the file name of the image, without the folder: the picture of
    ``red/1.png`` overwrites that of ``green/1.png``. If names repeat in a data set, this hook puts
    the number of the sample before them: ``0_1.png``. ``toast_mm.Runner`` uses this hook if a
    config names mmpretrain's.

    Of images that :class:`LoadBandsFromFile` loads, it draws the three bands that are ``shown``.
    """

    _names: dict[str, str] = {}
    _loader: LoadBandsFromFile | None = None

    def before_val_epoch(self, runner: Runner) -> None:
        """Name the pictures of the validation images."""
        self._note(runner.val_dataloader.dataset)

    def before_test_epoch(self, runner: Runner) -> None:
        """Name the pictures of the test images."""
        self._note(runner.test_dataloader.dataset)

    def _note(self, dataset: Any) -> None:
        self._names = _picture_names(dataset) if self.enable else {}
        self._loader = band_loader(dataset)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[DataSample]
    ) -> None:
        """Draw the predictions of a batch."""
        super().after_val_iter(
            runner, batch_idx, self._in_colours(data_batch), self._named(outputs)
        )

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[DataSample]
    ) -> None:
        """Draw the predictions of a batch."""
        super().after_test_iter(
            runner, batch_idx, self._in_colours(data_batch), self._named(outputs)
        )

    def _in_colours(self, batch: dict) -> dict:
        """A batch with pictures of its images."""
        if self._loader is None or not self.enable:
            return batch
        images = (image.permute(1, 2, 0).cpu().numpy() for image in batch['inputs'])
        pictures = (torch.from_numpy(self._loader.to_rgb(image)) for image in images)
        return {**batch, 'inputs': [picture.permute(2, 0, 1) for picture in pictures]}

    def _named(self, samples: Sequence[DataSample]) -> Sequence[DataSample]:
        """Copy samples with the name of the picture as ``img_path``, which mmpretrain uses."""
        if not self._names:
            return samples
        named = [sample.clone() for sample in samples]
        for sample in named:
            path = sample.get('img_path')
            sample.set_metainfo(dict(img_path=self._names.get(path, path)))
        return named


@HOOKS.register_module()
class SegVisualizationHook(mmseg.engine.SegVisualizationHook):
    """mmseg's ``SegVisualizationHook``, also for images of other than three bands.

    Of images that :class:`LoadBandsFromFile` loads, it draws the three bands that are ``shown``.
    ``toast_mm.Runner`` uses this hook if a config names mmseg's.
    """

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[SegDataSample]
    ) -> None:
        """Draw the first prediction of a batch."""
        loader = band_loader(runner.val_dataloader.dataset)
        step = runner.iter + batch_idx
        if loader is None:
            super().after_val_iter(runner, batch_idx, data_batch, outputs)
        elif self.draw and step % self.interval == 0:
            self._draw_bands(loader, 'val', outputs[0], step)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[SegDataSample]
    ) -> None:
        """Draw all predictions of a batch."""
        loader = band_loader(runner.test_dataloader.dataset)
        if loader is None:
            super().after_test_iter(runner, batch_idx, data_batch, outputs)
            return
        for sample in outputs if self.draw else []:
            self._test_index += 1
            self._draw_bands(loader, 'test', sample, self._test_index)

    def _draw_bands(
        self, loader: LoadBandsFromFile, part: str, sample: SegDataSample, step: int
    ) -> None:
        self._visualizer.add_datasample(
            f'{part}_{osp.basename(sample.img_path)}',
            loader.to_rgb(loader.read(sample.img_path)),
            data_sample=sample,
            show=self.show,
            wait_time=self.wait_time,
            step=step,
        )


def _picture_names(dataset: Any) -> dict[str, str]:
    """Names of pictures by path of the image; empty if the names of the images are unique."""
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    numbers = {info['img_path']: n for n, info in enumerate(infos) if info.get('img_path')}
    if len({osp.basename(path) for path in numbers}) == len(numbers):
        return {}
    return {path: f'{number}_{osp.basename(path)}' for path, number in numbers.items()}
