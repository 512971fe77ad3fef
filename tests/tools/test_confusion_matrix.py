"""tools/analysis_tools/confusion_matrix.py on models whose predictions are known."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import ROOT, tiny_ade20k
from mmengine.config import Config
from PIL import Image

from toast_mm.command_line import config_parser, read_with_options
from toast_mm.engine.model import build_model

ADE = ROOT / 'configs/ade20k_toast_upernet.py'


def save_that_predicts(cfg, path, weight, bias, answer):
    """An untrained model whose last layer always says the same class."""
    state = build_model(cfg).state_dict()
    state[weight].zero_()
    state[bias].zero_()[answer] = 1.0
    torch.save(dict(state_dict=state, meta={}), path)


def read(path):
    with open(path, newline='') as file:
        return [*csv.reader(file)]


def test_classifier(tool, classifier_job, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    last = ('head.layers.head.weight', 'head.layers.head.bias')
    save_that_predicts(Config.fromfile(classifier_job), 'w.pth', *last, answer=1)
    tool('analysis_tools/confusion_matrix', classifier_job, 'w.pth')
    root = Path(Config.fromfile(classifier_job).val_dataloader.dataset.data_root)
    folders = sorted(root.iterdir())
    rows = [[folder.name, '0', str(len([*folder.iterdir()]))] for folder in folders]
    assert read('work_dirs/classifier/confusion_matrix.csv') == [
        ['true class', *(folder.name for folder in folders)],
        *rows,
    ]
    out = capsys.readouterr().out
    assert '50.00% of 8 are predicted right' in out
    assert f'{folders[0].name} as {folders[1].name}: 4 (100.0% of its class)' in out
    with Image.open('work_dirs/classifier/confusion_matrix.png') as picture:
        assert picture.width > 500
    with pytest.raises(SystemExit, match=r'confusion_matrix\.csv exists already: choose another'):
        tool('analysis_tools/confusion_matrix', classifier_job, 'w.pth')


def test_segmentor(tool, ade20k, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = tiny_ade20k(ade20k)
    cfg = read_with_options(config_parser('').parse_args([str(ADE), *options]))
    last = ('decode_head.conv_seg.weight', 'decode_head.conv_seg.bias')
    save_that_predicts(cfg, 'w.pth', *last, answer=74)
    files = ('--out', 'matrix.csv', '--picture', 'matrix.png')
    tool('analysis_tools/confusion_matrix', ADE, 'w.pth', *files, *options)
    masks = [np.array(Image.open(p)) for p in (ade20k / 'annotations/validation').iterdir()]
    pixels = np.bincount(np.concatenate(masks, axis=None), minlength=151)[1:]  # 0 is ignored
    header, *rows = read('matrix.csv')
    assert header[:3] == ['true class', 'wall', 'building'] and len(header) == 151
    assert np.array([row[1:] for row in rows], int).sum(1).tolist() == pixels.tolist()
    assert [int(row[75]) for row in rows] == pixels.tolist()
    share = pixels[74] / pixels.sum()
    assert f'{share:.2%} of {pixels.sum()} are predicted right' in capsys.readouterr().out
    assert (tmp_path / 'matrix.png').is_file()


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ('nowhere.py w.pth', 'config file nowhere.py does not exist'),
        ('no_test.py w.pth', 'no_test.py has no model and test_dataloader to test'),
        ('no_scope.py w.pth', 'default_scope=None must be one of mmpretrain, mmseg'),
        ('labels.py w.pth', 'images with several labels have no confusion matrix'),
    ],
)
def test_configs_without_a_matrix(tool, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    for name, text in [
        ('w.pth', ''),
        ('no_test.py', 'model = dict()'),
        ('no_scope.py', 'model = dict()\ntest_dataloader = dict()'),
        (
            'labels.py',
            "default_scope = 'mmpretrain'\ntest_dataloader = dict()\n"
            "model = dict(head=dict(type='MultiLabelLinearClsHead'))",
        ),
    ]:
        Path(name).write_text(text)
    with pytest.raises(SystemExit, match=sentence):
        tool('analysis_tools/confusion_matrix', *arguments.split())


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ([ADE, 'nowhere.pth'], 'checkpoint nowhere.pth does not exist'),
        ([ADE, ADE, '--out', 'o.txt'], '--out o.txt must end in .csv'),
        ([ADE, ADE, '--picture', 'o.jpg'], '--picture o.jpg must end in .png'),
    ],
)
def test_arguments(tool, capsys, arguments, sentence):
    with pytest.raises(SystemExit) as exit_:
        tool('analysis_tools/confusion_matrix', *arguments)
    assert exit_.value.code == 2
    assert sentence in capsys.readouterr().err
