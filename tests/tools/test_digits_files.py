"""Files of the digits: layout, balance, and complete folders."""

import errno
from itertools import chain
from pathlib import Path

import digits_drawing
import numpy as np
import pytest
from digits_files import FolderError, make_digits
from mmpretrain.datasets import BaseDataset, CustomDataset
from PIL import Image

SIZES = dict(scenes=dict(train=30, val=10, test=10), cued=dict(train=20, val=10, test=10))


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob('*') if p.is_file()}


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('made') / 'digits'
    assert make_digits(root, SIZES)
    return root


def test_scenes_are_in_the_layout_of_pascal_voc(root):
    scenes = root / 'scenes'
    names = {}
    for split, number in SIZES['scenes'].items():
        names[split] = (scenes / f'ImageSets/Segmentation/{split}.txt').read_text().split()
        assert len(set(names[split])) == number
    listed = sorted(chain(*names.values()))
    assert [path.stem for path in sorted((scenes / 'JPEGImages').iterdir())] == listed
    assert [path.stem for path in sorted((scenes / 'SegmentationClass').iterdir())] == listed

    with Image.open(scenes / f'JPEGImages/{listed[0]}.jpg') as image:
        assert (image.mode, image.size, image.format) == ('RGB', (64, 64), 'JPEG')
    with Image.open(scenes / f'SegmentationClass/{listed[0]}.png') as mask:
        assert (mask.mode, mask.size) == ('P', (64, 64))
        colours = np.array(mask.getpalette()).reshape(-1, 3)
        assert colours[:11].tolist() == [list(colour) for colour in digits_drawing.PALETTE]
        labels = set(np.unique(np.array(mask)).tolist())
    assert labels <= {*range(11), 255} and {0, 255} < labels


def test_digits_are_equally_frequent_in_scenes(root):
    counts = np.zeros(11)
    for path in (root / 'scenes/SegmentationClass').glob('train_*.png'):
        with Image.open(path) as mask:
            labels = np.unique(np.array(mask))
        counts[labels[labels < 11]] += 1
    # A digit may be twice in a scene, but no more often than every tenth place.
    assert counts[0] == 30 and np.ptp(counts[1:]) <= 5 and counts[1:].min() >= 5


def test_cued_images_are_in_a_folder_per_split_and_digit(root):
    for split, number in SIZES['cued'].items():
        folders = sorted(path for path in (root / 'cued' / split).iterdir() if path.is_dir())
        assert [folder.name for folder in folders] == list('0123456789')
        assert {len(list(folder.iterdir())) for folder in folders} == {number // 10}
        with Image.open(next(folders[0].iterdir())) as image:
            assert (image.mode, image.size) == ('RGB', (64, 64))


@pytest.mark.parametrize('split', ['train', 'test'])
def test_boxes_of_cued_images(root, split):
    """mmpretrain reads them, with the classes of the folders; a box holds the red card."""
    folder = root / 'cued' / split
    dataset = BaseDataset('annotations.json', data_root=str(folder))
    folders = CustomDataset(data_root=str(folder))
    assert list(dataset.metainfo['classes']) == list(folders.CLASSES) == list('0123456789')
    images = [
        {
            (info['img_path'], info['gt_label'])
            for info in map(found.get_data_info, range(len(found)))
        }
        for found in (dataset, folders)
    ]
    assert images[0] == images[1]
    for info in map(dataset.get_data_info, range(len(dataset))):
        path = info['img_path']
        ((left, top, right, bottom),) = info['gt_bboxes']
        with Image.open(path) as image:
            box = np.array(image)[top:bottom, left:right].astype(int)
        red, ink = (box[..., 0] > 170) & (box[..., 1:].max(axis=-1) < 110), box.max(axis=-1) < 110
        assert 28 <= right - left <= 34 and 28 <= bottom - top <= 34
        assert (red | ink).mean() > 0.7 and red.mean() > 0.3 and ink.mean() > 0.1


def test_no_image_is_there_twice(root):
    images = [*root.rglob('*.jpg'), *(root / 'cued').rglob('*.png')]
    assert len({path.read_bytes() for path in images}) == len(images) == 50 + 40


def test_the_seed_decides_everything(root, tmp_path):
    make_digits(tmp_path / 'same', SIZES)
    assert contents(tmp_path / 'same') == contents(root)
    make_digits(tmp_path / 'other', SIZES, seed=1)
    images = [
        {file for name, file in contents(folder).items() if name.endswith(('.jpg', '.png'))}
        for folder in (root, tmp_path / 'other')
    ]
    assert images[0].isdisjoint(images[1])


def test_what_is_there_is_used(tmp_path):
    root = tmp_path / 'digits'
    assert make_digits(root, SIZES)
    written = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    assert not make_digits(root, SIZES)
    assert written == {path: path.stat().st_mtime_ns for path in root.rglob('*')}


def test_other_sizes_replace_what_is_there(tmp_path):
    root = tmp_path / 'digits'
    make_digits(root, SIZES)
    smaller = dict(SIZES, cued=dict(train=10, val=10, test=10))
    assert make_digits(root, smaller)
    assert len(list((root / 'cued/train').rglob('*.png'))) == 10
    assert list(tmp_path.iterdir()) == [root]


def test_an_interruption_leaves_nothing(tmp_path):
    def interrupt(paths, total):
        assert total == 90
        for number, path in enumerate(paths):
            assert path.exists()
            if number == 40:
                raise KeyboardInterrupt
            yield path

    with pytest.raises(KeyboardInterrupt):
        make_digits(tmp_path / 'digits', SIZES, track=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_replaced(root, tmp_path):
    (tmp_path / 'digits.partial/scenes/JPEGImages').mkdir(parents=True)
    (tmp_path / 'digits.partial/scenes/JPEGImages/train_9999.jpg').write_text('half')
    (tmp_path / 'digits.partial/digits.json').touch()
    make_digits(tmp_path / 'digits', SIZES)
    assert list(tmp_path.iterdir()) == [tmp_path / 'digits']
    assert contents(tmp_path / 'digits') == contents(root)


@pytest.mark.parametrize('name', ['digits', 'digits.partial', 'digits.former'])
def test_folders_of_others_are_not_changed(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'notes.txt').write_text('mine')
    sentence = f'/{name} exists and was not made by this command; remove it'
    with pytest.raises(FolderError, match=sentence):
        make_digits(tmp_path / 'digits', SIZES)
    assert [*tmp_path.rglob('*')] == [tmp_path / name, tmp_path / name / 'notes.txt']


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(FolderError, match=r'file/digits cannot be made: .*Not a directory'):
        make_digits(tmp_path / 'file' / 'digits', SIZES)


def test_a_full_disk(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(Image.Image, 'save', fail)
    with pytest.raises(FolderError, match=r'digits cannot be made: .*No space left on device'):
        make_digits(tmp_path / 'digits', SIZES)
    assert list(tmp_path.iterdir()) == []
