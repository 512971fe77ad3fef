"""Folders of classes: what is found, drawn and refused."""

from collections import Counter

import pytest
from own_images import fill_folder
from PIL import Image

from toast_mm.jobs import DataError, read_layout
from toast_mm.jobs.class_folders import ClassFolders


def per_class(lines):
    return Counter(line.rpartition(' ')[2] for line in lines)


def test_the_draw_is_stratified_disjoint_and_complete(flowers):
    data = read_layout(flowers, held_out=0.3, seed=1)
    assert isinstance(data, ClassFolders)
    assert data.classes == ['blåklint', 'ivy', 'red rose']
    assert per_class(data.samples['train']) == {'0': 7, '1': 7, '2': 7}
    assert per_class(data.samples['val']) == {'0': 3, '1': 3, '2': 3}
    drawn = data.samples['train'] + data.samples['val']
    expected = {f'{p.parent.name}/{p.name}' for p in flowers.rglob('*.png')}
    assert len(drawn) == 30
    assert {line.rpartition(' ')[0] for line in drawn} == expected
    for line in drawn:
        path, _, label = line.rpartition(' ')
        assert path.split('/')[0] == data.classes[int(label)]
    assert data.samples['test'] is data.samples['val']


def test_the_draw_depends_on_the_seed_alone(flowers):
    one, same, other = (read_layout(flowers, seed=seed).samples for seed in (1, 1, 2))
    assert one == same
    assert one['val'] != other['val']


def test_splits_of_the_user_stay(tmp_path):
    for split, number in (('train', 3), ('valid', 2), ('test', 1)):
        for name in 'ab':
            fill_folder(tmp_path / split / name, number, (9, 9, 9))
    data = read_layout(tmp_path)
    assert data.folders == {'train': 'train', 'val': 'valid', 'test': 'test'}
    assert {split: len(lines) for split, lines in data.samples.items()} == dict(
        train=6, val=4, test=2
    )
    assert data.place('valid') == dict(data_prefix='valid')


def test_validation_is_drawn_from_train_if_only_a_test_set_is_there(tmp_path):
    for split, number in (('train', 10), ('test', 1)):
        for name in 'ab':
            fill_folder(tmp_path / split / name, number, (9, 9, 9))
    data = read_layout(tmp_path)
    assert data.folders == {}
    assert {split: len(lines) for split, lines in data.samples.items()} == dict(
        train=16, val=4, test=2
    )
    assert all(line.startswith('train/') for line in data.samples['val'])
    assert all(line.startswith('test/') for line in data.samples['test'])


def test_a_class_may_be_called_train(tmp_path):
    for name in ('train', 'bus'):
        fill_folder(tmp_path / name, 5, (9, 9, 9))
    assert read_layout(tmp_path).classes == ['bus', 'train']


def test_odd_files_are_named(tmp_path):
    for name in 'ab':
        fill_folder(tmp_path / name, 5, (9, 9, 9))
    fill_folder(tmp_path / '.hidden', 1, (9, 9, 9))
    (tmp_path / 'a' / 'photo.HEIC').touch()
    (tmp_path / 'loose.jpg').touch()
    (tmp_path / 'a' / 'notes.txt').touch()
    data = read_layout(tmp_path)
    assert data.classes == ['a', 'b']
    assert data.notes == [
        f'{tmp_path} has 1 images beside the class folders, not used',
        f'{tmp_path / "a"} has 1 .heic, not used',
    ]


def test_a_class_that_validation_lacks_is_named(tmp_path):
    fill_folder(tmp_path / 'many', 10, (9, 9, 9))
    fill_folder(tmp_path / 'one', 1, (9, 9, 9))
    data = read_layout(tmp_path)
    assert data.notes == [
        "none of the 2 validation images has class 'one': add images, or draw more by held_out"
    ]
    assert per_class(data.samples['train'])['1'] == 1


def empty_class(root):
    (root / 'c').mkdir()
    (root / 'c' / 'x.heic').touch()
    return f'{root / "c"} has no images .*, but 1 .heic'


def one_class(root):
    (root / 'b').rename(root / '.b')
    return f"{root} has one folder, 'a': a classifier needs"


def another_class_in_val(root):
    for name in 'ab':
        fill_folder(root / 'train' / name, 2, (9, 9, 9))
        (root / name).rename(root / f'.{name}')
    fill_folder(root / 'val' / 'c', 2, (9, 9, 9))
    return f'{root / "val" / "a"} does not exist: .* must have the folders of'


def besides_in_val(root):
    for split in ('train', 'val'):
        for name in 'ab':
            fill_folder(root / split / name, 2, (9, 9, 9))
    fill_folder(root / 'val' / 'c', 2, (9, 9, 9))
    for name in 'ab':
        (root / name).rename(root / f'.{name}')
    return f'{root / "val" / "c"} is of no class'


def no_train(root):
    fill_folder(root / 'val' / 'a', 2, (9, 9, 9))
    return f'{root} has val, but no folder train'


def two_of_a_split(root):
    for name in ('train', 'training'):
        fill_folder(root / name / 'a', 2, (9, 9, 9))
    return 'has train and training, which are both train'


def first_space(root):
    Image.new('RGB', (4, 4)).save(root / 'a' / 'y.png')
    (root / 'a').rename(root / ' a')
    return "' a/.* a list cannot hold"


@pytest.mark.parametrize(
    'spoil',
    [empty_class, one_class, another_class_in_val, besides_in_val, no_train, two_of_a_split,
     first_space],
)  # fmt: skip
def test_unusable_folders(tmp_path, spoil):
    for name in 'ab':
        fill_folder(tmp_path / name, 2, (9, 9, 9))
    message = spoil(tmp_path)
    with pytest.raises(DataError, match=message):
        read_layout(tmp_path)


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match='nowhere does not exist'):
        read_layout(tmp_path / 'nowhere')
    (tmp_path / 'file').touch()
    with pytest.raises(DataError, match='file is no folder'):
        read_layout(tmp_path / 'file')
    with pytest.raises(DataError, match='held_out=1 must be a share'):
        read_layout(tmp_path, held_out=1)
