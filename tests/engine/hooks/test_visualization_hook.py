"""Every image has a picture, also with equal file names."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import mmseg.engine
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, Compose, ConcatDataset
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer

from toast_mm.datasets import LoadBandsFromFile
from toast_mm.engine import Runner, SegVisualizationHook, VisualizationHook
from toast_mm.engine.runner import OWN_HOOKS


class Paths(BaseDataset):
    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        super().__init__()

    def load_data_list(self) -> list[dict]:
        return [dict(img_path=path) for path in self.paths]


def draw(dataset, out_dir: Path, phase: str = 'test', hook=None) -> list[str]:
    """Names of the pictures of a data set, drawn in batches of two."""
    if hook is None:
        UniversalVisualizer.get_instance('pictures')
        hook = VisualizationHook(enable=True, interval=1, out_dir=str(out_dir))
    runner = SimpleNamespace(train_loop=None, iter=0)
    setattr(runner, f'{phase}_dataloader', SimpleNamespace(dataset=dataset))
    getattr(hook, f'before_{phase}_epoch')(runner)
    paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    for number in range(0, len(paths), 2):
        samples = [
            DataSample(metainfo=dict(img_path=path)).set_pred_label(0)
            for path in paths[number:][:2]
        ]
        batch = dict(inputs=[torch.zeros(3, 8, 8, dtype=torch.uint8)] * len(samples))
        getattr(hook, f'after_{phase}_iter')(runner, number // 2, batch, samples)
        assert [sample.img_path for sample in samples] == paths[number:][:2]
    return sorted(path.name for path in out_dir.iterdir())


@pytest.mark.parametrize('phase', ['val', 'test'])
def test_files_of_one_name_in_two_folders(tmp_path, phase):
    dataset = Paths(['d/green/1.png', 'd/green/2.png', 'd/red/1.png', 'd/red/2.png'])
    assert draw(dataset, tmp_path, phase) == [
        *('0_1.png_0.png', '1_2.png_0.png', '2_1.png_0.png', '3_2.png_0.png')
    ]


def test_several_data_sets_of_other_folders(tmp_path):
    """One has an absolute path, and the joined names of folders look alike."""
    dataset = ConcatDataset([Paths(['/d/a_b/1.png', '/d/a/b_1.png']), Paths(['a/1.png'])])
    assert draw(dataset, tmp_path) == ['0_1.png_0.png', '1_b_1.png_0.png', '2_1.png_0.png']


def test_names_that_differ_stay_as_mmpretrain_has_them(tmp_path):
    dataset = Paths(['d/green/1.png', 'd/red/2.png'])
    assert draw(dataset, tmp_path) == ['1.png_0.png', '2.png_0.png']


@pytest.mark.parametrize('kind', ['mmpretrain.VisualizationHook', 'toast_mm.VisualizationHook'])
def test_the_runner_takes_it_for_that_of_mmpretrain(steered_config, tmp_path, kind):
    cfg = steered_config(tmp_path, dict(type=kind, enable=False))
    hooks = [type(hook) for hook in Runner.from_cfg(cfg).hooks]
    assert hooks.count(VisualizationHook) == 1
    assert not any(hook.__module__.startswith('mmpretrain') for hook in hooks)


class Bands(Paths):
    """Images of four bands, of which the last three are shown in reverse."""

    def __init__(self, paths: list[str]) -> None:
        super().__init__(paths)
        self.pipeline = Compose([LoadBandsFromFile(4, shown=(3, 2, 1))])


class Drawn:
    """Keeps what a visualizer is asked to draw."""

    def __init__(self) -> None:
        self.pictures: list[tuple[str, np.ndarray]] = []

    def add_datasample(self, name: str, image: np.ndarray, **others: object) -> None:
        self.pictures.append((name, image))

    def visualize_cls(self, image: np.ndarray, name: str, **others: object) -> None:
        self.pictures.append((name, image))


def four_bands(folder: Path) -> tuple[str, np.ndarray]:
    """A file, and the picture of it: each band is a ramp of another direction."""
    ramp = np.tile(np.arange(101.0), (101, 1))
    bands = np.stack([np.zeros_like(ramp), ramp, 9 * ramp.T, 3 * ramp[:, ::-1]], -1)
    np.save(folder / 'a.npy', bands)
    stretched = np.clip((np.arange(101) - 2) / 96, 0, 1) * 255
    gray = np.tile(stretched, (101, 1))
    return str(folder / 'a.npy'), np.stack([gray[:, ::-1], gray.T, gray], -1)


@pytest.mark.parametrize('phase', ['val', 'test'])
def test_three_bands_are_shown(tmp_path, phase):
    path, expected = four_bands(tmp_path)
    dataset = Bands([path])
    image = torch.from_numpy(np.load(path)).permute(2, 0, 1)
    runner = SimpleNamespace(train_loop=None, iter=0)
    setattr(runner, f'{phase}_dataloader', SimpleNamespace(dataset=dataset))
    UniversalVisualizer.get_instance('bands')
    hook = VisualizationHook(enable=True, interval=1)
    hook._visualizer = Drawn()
    getattr(hook, f'before_{phase}_epoch')(runner)
    sample = DataSample(metainfo=dict(img_path=path)).set_pred_label(0)
    getattr(hook, f'after_{phase}_iter')(runner, 0, dict(inputs=[image]), [sample])
    (name, picture), *others = hook._visualizer.pictures
    assert name == 'a.npy' and not others
    np.testing.assert_allclose(picture, expected, atol=0.51)


@pytest.mark.parametrize('phase', ['val', 'test'])
def test_three_bands_of_segmented_images_are_shown(tmp_path, phase):
    SegLocalVisualizer.get_instance('segmented bands')
    check_segmented_bands(SegVisualizationHook(draw=True, interval=1), tmp_path, phase)


def check_segmented_bands(hook, folder: Path, phase: str) -> None:
    path, expected = four_bands(folder)
    runner = SimpleNamespace(iter=0)
    setattr(runner, f'{phase}_dataloader', SimpleNamespace(dataset=Bands([path])))
    hook._visualizer = Drawn()
    sample = SegDataSample(metainfo=dict(img_path=path))
    getattr(hook, f'after_{phase}_iter')(runner, 0, {}, [sample])
    (name, picture), *others = hook._visualizer.pictures
    assert name == f'{phase}_a.npy' and not others
    np.testing.assert_allclose(picture, expected, atol=0.51)


def test_the_runner_uses_our_hook_of_segmentation():
    assert OWN_HOOKS[mmseg.engine.SegVisualizationHook] is SegVisualizationHook
