"""The same classes in training, validation, test and checkpoint, under mmengine's own Runner."""

import shutil
from pathlib import Path

import mmengine.runner
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from toy_images import SIZES

SENTENCE = r"class 1 is 'red' in the {} data set in .*, but 'green' in the {}.*\(2 of 3 differ\)"


@pytest.fixture(scope='module')
def colours(tmp_path_factory) -> Path:
    """Folders ``right``, ``renamed`` (green is zgreen) and ``lacking`` (without green)."""
    root = tmp_path_factory.mktemp('colours')
    for index, name in enumerate(['blue', 'green', 'red']):
        image = np.zeros((16, 16, 3), np.uint8)
        image[..., 2 - index] = 200
        (root / 'right' / name).mkdir(parents=True)
        Image.fromarray(image).save(root / 'right' / name / 'a.png')
    for other in ('renamed', 'lacking'):
        shutil.copytree(root / 'right', root / other)
    (root / 'renamed' / 'green').rename(root / 'renamed' / 'zgreen')
    shutil.rmtree(root / 'lacking' / 'green')
    return root


@pytest.fixture
def config(toy_config, colours, tmp_path):
    def make(train: str = 'right', val: str = 'right', test: str = 'right', **changes) -> Config:
        cfg = toy_config(tmp_path / 'run', **changes)
        cfg.pop('runner_type', None)
        cfg.default_scope = 'mmpretrain'
        cfg.custom_hooks = [dict(type='toast_mm.DataCheckHook')]
        pipeline = [dict(type='toast_mm.LoadImageFromFile'), dict(type='PackInputs')]
        cfg.model = dict(
            type='ImageClassifier',
            backbone=dict(type='toast_mm.TOASTViT', **SIZES),
            head=dict(type='VisionTransformerClsHead', num_classes=3, in_channels=16),
            data_preprocessor=dict(mean=[0] * 3, std=[255] * 3),
        )
        for part, folder in (('train', train), ('val', val), ('test', test)):
            cfg[f'{part}_dataloader'] = dict(
                batch_size=3,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(
                    type='CustomDataset', data_root=str(colours / folder), pipeline=pipeline
                ),
            )
            if part != 'train':
                cfg[f'{part}_evaluator'] = dict(type='Accuracy')
                cfg[f'{part}_cfg'] = dict()
        cfg.train_cfg = dict(by_epoch=True, max_epochs=1)
        cfg.param_scheduler = None
        return Config(cfg.to_dict())

    return make


def run(cfg: Config) -> mmengine.runner.Runner:
    runner = mmengine.runner.Runner.from_cfg(cfg)
    assert type(runner) is mmengine.runner.Runner
    return runner


@pytest.fixture
def checkpoint(config, tmp_path) -> str:
    run(config(experiment_name='before')).train()
    return str(next((tmp_path / 'run').glob('*.pth')))


def test_test_data_against_the_checkpoint(config, checkpoint):
    cfg = config(test='renamed', load_from=checkpoint, experiment_name='test')
    with pytest.raises(ValueError, match=SENTENCE.format('test', f'checkpoint {checkpoint}')):
        run(cfg).test()
    cfg.custom_hooks[0].compare = []
    cfg.experiment_name = 'meant'
    run(cfg).test()


def test_a_class_that_the_test_data_lack(config, checkpoint):
    cfg = config(test='lacking', load_from=checkpoint, experiment_name='test')
    with pytest.raises(ValueError, match=r"has 2 classes, but .* has 3: it lacks 'green'"):
        run(cfg).test()


def test_resuming_and_starting_from_a_checkpoint(config, checkpoint):
    """Only a resumed training must have the same classes."""
    cfg = config('renamed', 'renamed', load_from=checkpoint, resume=True, experiment_name='again')
    cfg.train_cfg.max_epochs = 2
    with pytest.raises(ValueError, match=SENTENCE.format('train', 'checkpoint')):
        run(cfg).train()
    cfg = config('renamed', 'renamed', load_from=checkpoint, experiment_name='tuned')
    run(cfg).train()


def test_validation_against_training(config, tmp_path):
    with pytest.raises(ValueError, match=SENTENCE.format('val', 'train data set in .*right')):
        run(config(val='renamed')).train()
    assert not [*(tmp_path / 'run').glob('*.pth')]


def test_names_in_another_order_than_the_folders(config):
    cfg = config()
    cfg.train_dataloader.dataset.metainfo = dict(classes=['red', 'green', 'blue'])
    with pytest.raises(ValueError, match=r'numbers its classes in the order of their folders'):
        run(cfg).train()


def test_folders_of_classes_with_other_names(config, checkpoint, tmp_path):
    """The given names are the same, but they stand for different folders."""
    names = dict(classes=['sky', 'grass', 'brick'])
    cfg = config(experiment_name='named')
    cfg.train_dataloader.dataset.metainfo = cfg.val_dataloader.dataset.metainfo = names
    run(cfg).train()
    saved = torch.load(checkpoint, weights_only=False)
    assert saved['meta']['class_folders'] == ['blue', 'green', 'red']
    cfg = config(test='renamed', load_from=checkpoint, experiment_name='test')
    cfg.test_dataloader.dataset.metainfo = names
    with pytest.raises(ValueError, match=r"the folder of class 1 is 'red' in the test .* 'green'"):
        run(cfg).test()
