"""Lists of folders by split and class."""

import pytest
from PIL import Image


def fill(task, split, **classes):
    for name, images in classes.items():
        for image in images:
            path = task / split / name / image
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new('RGB', (8, 8)).save(path)


def lines(file):
    return file.read_text().splitlines()


def test_names_of_classes(tool, tmp_path, capsys):
    task = tmp_path / 'mine'
    fill(task, 'train', dog=['2.png', '1.jpg'], cat=['3.png'])
    fill(task, 'val', dog=['4.png'])
    fill(task, 'test', cat=['5.png'], emu=['6.png'])  # in no other split
    (task / 'train' / 'dog' / 'notes.md').write_text('')
    tool('dataset_converters/vtab', tmp_path)
    assert lines(task / 'train.txt') == [
        'train/cat/3.png 0',
        'train/dog/1.jpg 1',
        'train/dog/2.png 1',
    ]
    assert lines(task / 'val.txt') == ['val/dog/4.png 1']
    assert lines(task / 'trainval.txt') == lines(task / 'train.txt') + lines(task / 'val.txt')
    assert lines(task / 'test.txt') == ['test/cat/5.png 0', 'test/emu/6.png 2']


def test_numbers_are_labels(tool, tmp_path, capsys):
    task = tmp_path / 'dmlab'
    for split in ('train800', 'val200', 'test'):
        fill(task, split, **{'5': ['a.png'], '0': ['b.png']})
    tool('dataset_converters/vtab', tmp_path, '--tasks', 'dmlab')
    assert lines(task / 'train800val200.txt') == [
        'train800/0/b.png 0',
        'train800/5/a.png 5',
        'val200/0/b.png 0',
        'val200/5/a.png 5',
    ]
    written = 'dmlab got lists: 2 train, 2 val, 4 trainval, 2 test'
    assert written in capsys.readouterr().out
    before = (task / 'test.txt').stat().st_mtime_ns
    tool('dataset_converters/vtab', tmp_path)
    assert written.replace('got', 'had') in capsys.readouterr().out
    assert (task / 'test.txt').stat().st_mtime_ns == before


def test_mistakes_are_named(tool, tmp_path, capsys):
    task = tmp_path / 'kitti'
    fill(task, 'train800', **{'0': ['a.png'], 'cat': ['b.png']})
    with pytest.raises(SystemExit, match=r'kitti/val200 does not exist'):
        tool('dataset_converters/vtab', tmp_path)
    fill(task, 'val200', **{'0': ['a.png']})
    fill(task, 'test', **{'9': ['a.png']})
    with pytest.raises(SystemExit, match='names of classes mix numbers and words: 0, cat'):
        tool('dataset_converters/vtab', tmp_path)
    (task / 'train800' / 'cat').rename(task / 'train800' / '1')
    with pytest.raises(SystemExit, match=r'test\.txt, line 1: label 9 is outside the 4 classes'):
        tool('dataset_converters/vtab', tmp_path)
    with pytest.raises(SystemExit):
        tool('dataset_converters/vtab', tmp_path / 'nowhere')
    assert 'nowhere is not a folder' in capsys.readouterr().err
