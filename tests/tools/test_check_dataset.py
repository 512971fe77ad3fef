"""tools/misc/check_dataset.py: what it prints and writes, and its exit status."""

import json
import shutil

import pytest
from PIL import Image


def check(tool, *arguments):
    """Exit status of the tool, in this process."""
    with pytest.raises(SystemExit) as exit_:
        tool('misc/check_dataset', *arguments, '--jobs', 0)
    return exit_.value.code


def test_good_data(tool, classifier_job, tmp_path, capsys):
    report = tmp_path / 'report.json'
    assert check(tool, classifier_job, '--json', report) == 0
    printed = capsys.readouterr().out
    assert 'train: 12 samples (12 PNG RGB), 40 x 40 to 40 x 40 pixels; 2 classes: ' in printed
    assert 'test: the samples of val' in printed and '0 broken' in printed
    assert json.loads(report.read_text())['splits']['val']['counts'] == [4, 4]
    assert 'add --overwrite' in check(tool, classifier_job, '--json', report)


@pytest.mark.slow
def test_sheet(tool, classifier_job, tmp_path):
    assert check(tool, classifier_job, '--sheet', tmp_path / 'sheet.png') == 0
    with Image.open(tmp_path / 'sheet.png') as picture:
        assert picture.format == 'PNG'


def test_a_broken_file(tool, classifier_job, folders, tmp_path, capsys):
    broken = tmp_path / 'images' / 'class_0' / 'broken.png'
    broken.parent.mkdir(parents=True)
    broken.write_bytes((folders / 'train' / 'class_0' / '0_0.png').read_bytes()[:-500])
    option = f'train_dataloader.dataset.data_root={tmp_path / "images"}'
    assert check(tool, classifier_job, '--cfg-options', option) == 1
    assert f'train: {broken}: its pixels are cut off or damaged' in capsys.readouterr().out


def test_a_dead_link_in_a_folder(tool, classifier_job, folders, tmp_path, capsys):
    shutil.copytree(folders / 'train', tmp_path / 'images')
    link, report = tmp_path / 'images' / 'class_1' / 'gone.png', tmp_path / 'report.json'
    link.symlink_to('nowhere.png')
    option = f'train_dataloader.dataset.data_root={tmp_path / "images"}'
    assert check(tool, classifier_job, '--json', report, '--cfg-options', option) == 1
    assert f'train: {link}: it is a link without a target' in capsys.readouterr().out
    found = [one for one in json.loads(report.read_text())['findings'] if one['file'] == str(link)]
    assert [(one['level'], one['kind'], one['split']) for one in found] == [
        ('broken', 'missing', 'train')
    ]


@pytest.mark.parametrize('output', ['--json', '--sheet'])
def test_outputs_are_checked_first(tool, classifier_job, tmp_path, monkeypatch, output):
    from toast_mm import inspection

    monkeypatch.setattr(inspection, 'inspect', None)  # is not called
    path = tmp_path / 'nowhere' / 'x.png'
    sentence = f'{path} cannot be written: {path.parent} does not exist'
    assert check(tool, classifier_job, output, path) == sentence


def test_mistakes(tool, classifier_job, tmp_path, capsys):
    assert 'nowhere.py' in check(tool, tmp_path / 'nowhere.py')
    with pytest.raises(SystemExit) as exit_:
        tool('misc/check_dataset', classifier_job, '--jobs', -1)
    assert exit_.value.code == 2 and 'must be at least 0' in capsys.readouterr().err
