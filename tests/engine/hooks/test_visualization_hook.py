"""Every image has a picture, also with equal file names."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer

from toast_mm.engine import Runner, VisualizationHook


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
