"""A folder per class."""

import pytest
from painted import draw

from toast_mm.conversion import ConversionError
from toast_mm.conversion.readers import read_folders


def rows(found):
    return sorted((item.split, item.label, item.name) for item in found.items)


def test_classes(tmp_path):
    for name in ('cat/a.jpg', 'cat/far/a.PNG', 'dog/b.jpg', 'stray.jpg', '.hidden/c.jpg'):
        draw(tmp_path / name)
    (tmp_path / 'cat' / 'notes.txt').touch()
    (tmp_path / 'dog' / 'dead.jpg').symlink_to('nowhere.jpg')
    found = read_folders(tmp_path)
    assert rows(found) == [(None, 'cat', 'a'), (None, 'cat', 'far/a'), (None, 'dog', 'b')]
    assert [(one.what, one.why) for one in found.skipped] == [
        (str(tmp_path / 'dog' / 'dead.jpg'), 'it is a link without a target'),
        (str(tmp_path / 'stray.jpg'), 'it is in no folder of a class'),
    ]


def test_splits(tmp_path):
    for name in ('train/cat/a.jpg', 'Valid/dog/b.jpg', 'test/cat/c.jpg', 'test/d.jpg'):
        draw(tmp_path / name)
    found = read_folders(tmp_path)
    assert rows(found) == [('test', 'cat', 'c'), ('train', 'cat', 'a'), ('val', 'dog', 'b')]
    assert [one.what for one in found.skipped] == [str(tmp_path / 'test' / 'd.jpg')]


def test_no_folders(tmp_path):
    with pytest.raises(ConversionError, match='has no folders, which would be the classes'):
        read_folders(tmp_path)
    with pytest.raises(ConversionError, match='nowhere is not a folder'):
        read_folders(tmp_path / 'nowhere')
