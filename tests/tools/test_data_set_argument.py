"""DATASET names the data set of a job for several: each has its folder and its saved config."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import ROOT
from mmengine.config import Config
from PIL import Image

JOB = 'inca_vit-l16-in21k_1xb32-100e_imagenet-to-sketch-224x224'
CONFIG = ROOT / f'configs/imagenet_to_sketch/{JOB}.py'
CLASSES = {'sketches': 250, 'wikiart': 195}
SMALL = {
    'model.backbone.arch._delete_': True,
    'model.backbone.arch.embed_dims': 16,
    'model.backbone.arch.num_layers': 4,
    'model.backbone.arch.num_heads': 2,
    'model.backbone.arch.feedforward_channels': 16,
    'model.backbone.patch_size': 32,
    'model.backbone.init_cfg': None,
    'model.head.in_channels': 16,
    'task_files': False,  # of no base
    'train_cfg.max_epochs': 1,
    'train_cfg.val_interval': 1,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'val_dataloader.num_workers': 0,
    'test_dataloader.num_workers': 0,
}
OPTIONS = ['--cfg-options', *(f'{key}={value}' for key, value in SMALL.items())]


@pytest.fixture(scope='module')
def place(tmp_path_factory) -> Path:
    """A folder with data sets of one image per class."""
    root = tmp_path_factory.mktemp('place')
    for name, classes in CLASSES.items():
        for split in ('train', 'test'):
            for label in range(classes):
                file = root / f'data/{name}/{split}/{label:03}/0.png'
                file.parent.mkdir(parents=True)
                Image.new('RGB', (8, 8), (label, 0, 0)).save(file)
    return root


@pytest.fixture
def trained(tool, place, monkeypatch):
    """Both data sets, trained by the same command."""
    monkeypatch.chdir(place)
    for name in CLASSES:
        monkeypatch.setenv('DATASET', name)
        if not Path(f'work_dirs/{JOB}_{name}').exists():
            tool('train', CONFIG, *OPTIONS)
    monkeypatch.delenv('DATASET')
    return place / 'work_dirs'


def test_every_data_set_has_its_folder(trained):
    assert {path.name for path in trained.iterdir()} == {f'{JOB}_{name}' for name in CLASSES}
    for name, classes in CLASSES.items():
        weights = torch.load(trained / f'{JOB}_{name}/epoch_1.pth', weights_only=False)
        assert weights['state_dict']['head.adapters.0.read_out.weight'].shape[0] == classes


def test_the_saved_config_needs_no_variable(tool, trained, tmp_path):
    for name, classes in CLASSES.items():
        folder = trained / f'{JOB}_{name}'
        cfg = Config.fromfile(folder / f'{JOB}.py')
        assert cfg.model.head.num_classes == classes and cfg.env_variables == {}
        assert cfg.test_dataloader.dataset.data_root == f'data/{name}/test'
        out = tmp_path / f'{name}.pkl'
        tool('test', folder / f'{JOB}.py', folder / 'epoch_1.pth', '--out', out)
        assert out.exists()
    assert len(list(trained.iterdir())) == 2


def test_a_run_is_not_resumed_on_other_data(tool, trained, monkeypatch):
    monkeypatch.setenv('DATASET', 'wikiart')
    other = trained / f'{JOB}_sketches/epoch_1.pth'
    with pytest.raises(SystemExit, match=r'\[250, 16\].*\[195, 16\]'):
        tool('train', CONFIG, '--resume', other, *OPTIONS, 'train_cfg.max_epochs=2')


def test_a_work_dir_of_ones_own(tool, trained, tmp_path, monkeypatch):
    monkeypatch.setenv('DATASET', 'wikiart')
    tool('train', CONFIG, '--work-dir', tmp_path / 'mine', *OPTIONS)
    assert (tmp_path / 'mine/epoch_1.pth').exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ('config', 'values'),
    [
        (f'imagenet_to_sketch/{JOB}.py', 'cars, cub, dogs, flowers, nabirds, sketches, wikiart'),
        ('vtab/lora_vit-b16-in1k_1xb32-100e_vtab-224x224.py', 'cifar, caltech101, dtd, '),
    ],
)
def test_a_data_set_that_is_not_there(config, values):
    process = subprocess.run(
        [sys.executable, ROOT / 'tools/train.py', ROOT / 'configs' / config],
        env={**os.environ, 'DATASET': 'birds', 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    assert f'the environment variable DATASET=birds must be one of {values}' in process.stderr
    assert 'Traceback' not in process.stderr


def test_tasks_of_vtab(tool, monkeypatch, tmp_path):
    """One task in train.py, and the default of vtab.py."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('DATASET', 'dtd')
    config = ROOT / 'configs/vtab/toast-lite_vit-b16-in1k_1xb32-100e_vtab-224x224.py'
    cfg = Config.fromfile(config)
    assert cfg.model.head.num_classes == cfg.model.data_preprocessor.num_classes == 47
    assert cfg.train_dataloader.dataset.task == cfg.test_dataloader.dataset.task == 'dtd'
    with pytest.raises(SystemExit, match='data/vtab-1k/dtd'):
        tool('vtab', config)
