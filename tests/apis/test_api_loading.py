"""From files to predictors: a task file alone, with its config, in other forms, and mistakes."""

import copy
import runpy
import shutil
import sys

import numpy as np
import pytest
import torch

from toast_mm.apis import Tasks, load
from toast_mm.checkpoint import CheckpointError, load_from_local
from toast_mm.checkpoint.adapter import RECORD
from toast_mm.engine.config import ConfigError
from toast_mm.files import save_safetensors


@pytest.fixture(scope='module')
def expected(birds, photos):
    return load(birds.task_file, device='cpu').predict(photos[0])[0].scores


@pytest.mark.parametrize('form', ['path', 'text', 'config', 'safetensors', 'whole', 'list'])
def test_forms(birds, photos, expected, tmp_path, form):
    content = load_from_local(str(birds.task_file))
    if form == 'safetensors':
        save_safetensors(
            content['state_dict'], str(tmp_path / 'birds.safetensors'), content['meta']
        )
        arguments = [tmp_path / 'birds.safetensors']
    elif form == 'whole':  # a checkpoint of all weights
        weights = load(birds.task_file, device='cpu').model.state_dict()
        torch.save(dict(state_dict=weights, meta=content['meta']), tmp_path / 'whole.pth')
        arguments = [str(tmp_path / 'whole.pth')]
    else:
        config = dict(path=birds.path, text=str(birds.path)).get(form, birds.cfg)
        arguments = [config, str(birds.task_file)]
    if form == 'list':
        predictor = load({'birds': tuple(arguments)}, device='cpu')['birds']
    else:
        predictor = load(*arguments, device='cpu')
    assert predictor.classes == ['<b>finch</b>', 'owl', 'wren']
    np.testing.assert_array_equal(predictor.predict(photos[0])[0].scores, expected)


def test_a_published_file_alone(birds, photos, expected, tmp_path, monkeypatch):
    """``--base`` renames the base; the config of the training does not bring the old name back."""
    base = shutil.copy('toast_mm/weights/vit-1m_tinyin100.safetensors', tmp_path / 'b.safetensors')
    arguments = [str(birds.task_file), str(tmp_path / 'birds.safetensors'), '--no-hash']
    monkeypatch.setattr(sys, 'argv', ['publish_model.py', *arguments, '--base', str(base)])
    runpy.run_path('tools/misc/publish_model.py', run_name='__main__')
    predictor = load(tmp_path / 'birds.safetensors', device='cpu')
    np.testing.assert_array_equal(predictor.predict(photos[0])[0].scores, expected)
    base.unlink()
    with pytest.raises(CheckpointError, match=r'b\.safetensors does not exist'):
        load(tmp_path / 'birds.safetensors', device='cpu')


def test_a_config_object_stays_as_it_is(birds):
    before = birds.cfg.pretty_text
    load(birds.cfg, birds.task_file, 'cpu')
    assert birds.cfg.pretty_text == before


def test_weights_that_come_with_the_package(photos):
    base = load('toast_mm::pretrain/vit-1m_1xb128-75e_tinyin100-64x64.py', device='cpu')
    (result,) = base.predict(photos[0])
    assert result.classes == [str(number) for number in range(100)]
    np.testing.assert_allclose(result.scores.sum(), 1, rtol=1e-5)


def test_a_config_in_a_file_does_not_run(birds, tmp_path):
    content = torch.load(birds.task_file)
    marker = tmp_path / 'it_ran'
    content['meta']['cfg'] += f'\n__import__("pathlib").Path({str(marker)!r}).touch()\n'
    torch.save(content, tmp_path / 'task.pth')
    load(tmp_path / 'task.pth', device='cpu')
    content['meta']['cfg'] += "\nmodel = dict(type='os.mkdir', path='it_ran')\n"
    torch.save(content, tmp_path / 'task.pth')
    with pytest.raises(ConfigError, match=r"task\.pth cannot be used: model\.type='os\.mkdir'"):
        load(tmp_path / 'task.pth', device='cpu')
    assert not marker.exists()


def test_mistakes(birds, streets, photos, tmp_path):
    with pytest.raises(ConfigError, match=r'streets\.py needs a checkpoint: load\(CONFIG, CHECK'):
        load(streets.path)
    with pytest.raises(ConfigError, match='names no config'):
        load('toast_mm::nowhere/x.py')
    with pytest.raises(ConfigError, match=r'gone\.py does not exist'):
        load('gone.py', birds.task_file)
    with pytest.raises(FileNotFoundError, match=r'gone\.pth does not exist'):
        load(birds.path, 'gone.pth')
    with pytest.raises(FileNotFoundError, match='is a folder: name a file in it'):
        load(tmp_path)
    with pytest.raises(ValueError, match="device='gpu' cannot be used"):
        load(birds.task_file, device='gpu')
    with pytest.raises(ConfigError, match=r'birds\.pth is no config: its name must end in \.py'):
        load(birds.task_file, birds.path)
    with pytest.raises(CheckpointError, match=r'0\.png is damaged or no checkpoint'):
        load(photos[0])
    with pytest.raises(CheckpointError, match=r'birds\.pth does not fit the config'):
        load(streets.path, birds.task_file)
    shutil.copy('toast_mm/weights/vit-1m_tinyin100.safetensors', tmp_path / 'base.safetensors')
    with pytest.raises(ConfigError, match=r'base\.safetensors holds no config'):
        load(tmp_path / 'base.safetensors')


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ((None,), r'config_or_task_file=None must be str \| os\.PathLike'),
        (('job.py', 5), r'checkpoint=5 must be str \| os\.PathLike'),
        (('job.py', None, 0), r'device=0 must be str \| torch\.device \| None'),
        (({'birds': None},), r'config_or_task_file=None must be str'),
    ],
)
def test_arguments_of_another_type(arguments, sentence):
    with pytest.raises(TypeError, match=f'^load: {sentence}'):
        load(*arguments)


def test_a_task_of_three_files():
    with pytest.raises(ConfigError, match=r"^task 'birds': \('a', 'b', 'c'\) is no pair of config"):
        load({'birds': ('a', 'b', 'c')})


def test_a_device_of_torch(birds):
    assert load(birds.task_file, device=torch.device('cpu')).device == torch.device('cpu')


def test_other_numbers_of_classes(birds, tmp_path):
    content = torch.load(birds.task_file)
    content['meta']['dataset_meta']['classes'] = ['finch', 'owl']
    torch.save(content, tmp_path / 'two.pth')
    with pytest.raises(ValueError, match=r'names for 2 classes, but model\.head\.num_classes=3'):
        load(tmp_path / 'two.pth', device='cpu')


def test_a_head_of_whole_numbers(birds, tmp_path):
    content = torch.load(birds.task_file)
    name = next(name for name in content['state_dict'] if name.startswith('head.'))
    content['state_dict'][name] = content['state_dict'][name].to(torch.int8)
    torch.save(content, tmp_path / 'small.pth')
    with pytest.raises(
        CheckpointError, match=rf'small\.pth does not fit .*: {name} torch\.int8 ins'
    ):
        load(tmp_path / 'small.pth', device='cpu')


def test_a_config_without_model(birds, tmp_path):
    (tmp_path / 'empty.py').touch()
    with pytest.raises(ConfigError, match=rf'^{tmp_path}/empty\.py has no model$'):
        load(tmp_path / 'empty.py', birds.task_file, 'cpu')


def test_a_missing_base(birds, tmp_path):
    cfg = copy.deepcopy(birds.cfg)
    cfg.model.backbone.init_cfg.checkpoint = 'gone.pth'
    with pytest.raises(CheckpointError, match=r'needs its base, which cannot be read: .*gone\.pth'):
        load(cfg, birds.task_file, 'cpu')
    content = torch.load(birds.task_file)
    content['state_dict'][f'backbone.{RECORD}'] = torch.tensor([123], dtype=torch.uint8)
    torch.save(content, tmp_path / 'damaged.pth')
    with pytest.raises(CheckpointError, match='the record of the task file is damaged'):
        load(tmp_path / 'damaged.pth', device='cpu')


def test_several_are_tasks(birds):
    assert isinstance(load({'birds': birds.task_file}, device='cpu'), Tasks)
