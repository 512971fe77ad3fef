"""Random lists of a folder per class."""

import pytest
from PIL import Image

from toast_mm.datasets import VTAB


@pytest.fixture
def source(tmp_path):
    """Three classes in nested folders, of 2, 4 and 6 images."""
    for number, name in enumerate(['b/x', 'b/y', 'a'], start=1):
        for image in range(2 * number):
            path = tmp_path / 'source' / name / f'{image}.PNG'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new('1', (4, 4)).save(path)
    (tmp_path / 'source' / 'b' / 'notes.txt').write_text('')
    return tmp_path / 'source'


def split(tool, source, target, *options):
    tool('dataset_converters/split_folders', source, target, '--train', 5, '--val', 3, *options)
    return {name: (target / f'{name}.txt').read_text() for name in ('train', 'val', 'test')}


def test_lists(tool, source, tmp_path, capsys):
    lists = split(tool, source, tmp_path / 'lists' / 'mine')
    printed = 'mine: 3 classes; 5 train, 3 val, 8 trainval, 4 test'
    assert printed in capsys.readouterr().out
    seen = []
    for name, number in (('train', 5), ('val', 3), ('trainval', 8), ('test', 4)):
        dataset = VTAB(str(tmp_path / 'lists'), 'mine', name, pipeline=[])
        infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        assert len(infos) == number
        for info in infos:
            folder = info['img_path'].split('/source/')[1].rsplit('/', 1)[0]
            assert info['gt_label'] == ['a', 'b/x', 'b/y'].index(folder)
        if name != 'trainval':
            seen += [info['img_path'] for info in infos]
    assert len(set(seen)) == 12  # each once
    again = split(tool, source, tmp_path / 'again' / 'mine')
    other = split(tool, source, tmp_path / 'other' / 'mine', '--seed', '1')
    assert again == lists and other != lists


def test_too_few_images(tool, source, tmp_path):
    with pytest.raises(
        SystemExit, match=r'has 12 images in folders: 5 .* and 7 held out leave none'
    ):
        split(tool, source, tmp_path / 'lists', '--val', '7')
    with pytest.raises(SystemExit, match='has 0 images'):
        split(tool, tmp_path / 'nowhere', tmp_path / 'lists')
    assert not (tmp_path / 'lists').exists()


@pytest.mark.parametrize(
    'option, value', [('--train', '-2'), ('--val', '-1'), ('--train', '0'), ('--val', '0')]
)
def test_numbers_that_no_images_have(tool, source, tmp_path, capsys, option, value):
    """A negative number would count from the end, and put training images into the test list."""
    with pytest.raises(SystemExit) as exit_:
        split(tool, source, tmp_path / 'lists', option, value)
    assert exit_.value.code == 2
    assert f'argument {option}: {value} must be at least 1' in capsys.readouterr().err
    assert not (tmp_path / 'lists').exists()


def test_images_of_other_formats_are_reported(tool, source, tmp_path, capsys):
    for name in ('one.webp', 'two.GIF', 'three.webp'):
        (source / 'a' / name).touch()
    split(tool, source, tmp_path / 'lists')
    assert f'{source}: skipped 1 .GIF, 2 .webp; read are .bmp, .jpeg' in capsys.readouterr().out
