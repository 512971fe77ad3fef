"""Jobs of a model of timm with weights of the Hub, and tools/misc/backbones.py."""

import pickle
import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save

from toast_mm.checkpoint import load_from_local
from toast_mm.engine.config import ConfigError

NAME = 'vit_tiny_patch16_224'
REPOSITORY = 'timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k'
SIZES = dict(embed_dim=16, depth=2, num_heads=2, img_size=32)
PREPROCESSOR = "dict(_delete_=True, type='toast_mm.TimmClsDataPreprocessor', model_name='{name}')"
DOUBT = 'model.data_preprocessor gives other images than '


@pytest.fixture
def weights(hub):
    torch.manual_seed(0)
    weights = timm.create_model(NAME, **SIZES).state_dict()
    hub.add(REPOSITORY, model=save(weights))
    return weights


def job(classifier_job, preprocessor):
    path = classifier_job.with_name('timm_job.py')
    path.write_text(f"""
_base_ = '{classifier_job}'
model = dict(
    backbone=dict(
        _delete_=True, type='toast_mm.TOASTTimm', model_name='{NAME}', pretrained=True, **{SIZES}
    ),
    data_preprocessor={preprocessor},
)
train_cfg = dict(max_epochs=1)
task_files = True
""")
    return path


def log(folder: Path) -> str:
    return next(folder.rglob('*.log')).read_text()


def test_a_job_with_weights_of_the_hub(tool, hub, weights, classifier_job, tmp_path, monkeypatch):
    """Its task file finds them again, after the repository has moved on to others."""
    monkeypatch.chdir(tmp_path)
    path = job(classifier_job, PREPROCESSOR.format(name=NAME))
    tool('train', path)
    text = log(tmp_path / 'work_dirs')
    assert f'Base weights are those of hf://{REPOSITORY}@{"0" * 40}' in text
    assert DOUBT not in text
    checkpoint = tmp_path / 'work_dirs' / 'timm_job' / 'epoch_1.pth'
    assert not {*weights} & {n.removeprefix('backbone.model.') for n in saved(checkpoint)}

    tool('test', path, checkpoint, '--out', 'before.pkl')
    hub.add(REPOSITORY, model=save({name: tensor + 1 for name, tensor in weights.items()}))
    tool('test', path, checkpoint, '--out', 'after.pkl')
    before, after = (pickle.loads(Path(f'{n}.pkl').read_bytes()) for n in ('before', 'after'))
    assert len(before) == 8
    assert [x['pred_score'].tolist() for x in before] == [x['pred_score'].tolist() for x in after]


def test_missing_weights_are_told_before_missing_data(
    tool, hub, classifier_job, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = job(classifier_job, PREPROCESSOR.format(name=NAME))
    elsewhere = ['--cfg-options', 'train_dataloader.dataset.data_root=nowhere']
    with pytest.raises(SystemExit, match=f'checkpoint hf://{REPOSITORY} cannot be downloaded'):
        tool('train', path, *elsewhere)
    hub.add(REPOSITORY, model=b'')
    with pytest.raises(ConfigError, match=r'train_dataloader\.dataset .*nowhere'):
        tool('train', path, *elsewhere)


def saved(checkpoint):
    names = load_from_local(str(checkpoint))['state_dict']
    return [name for name in names if 'pos_embed' not in name]


def test_images_that_the_weights_were_not_trained_with(
    tool, weights, classifier_job, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    tool('train', job(classifier_job, 'dict(mean=None, std=None)'))
    assert log(tmp_path / 'work_dirs').count(f'{DOUBT}{NAME} was trained with, mean=None') == 1


def cells(capsys) -> dict[str, list[str]]:
    rows = [re.split(r'\s{2,}', line.strip()) for line in capsys.readouterr().out.splitlines()]
    return {row[0]: row[1:] for row in rows}


def test_list_of_backbones(tool, capsys):
    tool('misc/backbones', 'vit_small_patch14*')
    table = cells(capsys)
    mean, std = '0.485 0.456 0.406', '0.229 0.224 0.225'
    parameters = {
        name: sum(p.numel() for p in timm.create_model(name, num_classes=0).parameters()) / 1e6
        for name in ('vit_small_patch14_dinov2', 'vit_small_patch14_reg4_dinov2')
    }
    size = ['518 x 518', '14 x 14']
    rest = [mean, std, 'apache-2.0', 'yes']
    assert {name: row for name, row in table.items() if name != 'model_name'} == {
        f'{name}.lvd142m': [f'{number:.1f} M', *size, tokens, *rest]
        for (name, number), tokens in zip(parameters.items(), ('1', '5'), strict=True)
    }


def test_a_model_without_weights(tool, capsys):
    tool('misc/backbones', 'base_patch16_gap_224')
    assert cells(capsys)['vit_base_patch16_gap_224'][-1] == 'no'


@pytest.mark.parametrize(('pattern', 'number'), [('no_such', 0), ('xcit_nano_12_p16_224', 2)])
def test_no_model_fits(tool, pattern, number):
    message = rf"'{pattern}' fits toast_mm\.TOASTTimm \({number} match\)"
    with pytest.raises(SystemExit, match=message):
        tool('misc/backbones', pattern)
