"""Decoded images that stay in memory for several trainings."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from mmcv.transforms import Compose
from mmengine.dataset import BaseDataset
from PIL import Image

from toast_mm.datasets import LoadAnnotations, LoadImageFromFile, kept_images
from toast_mm.datasets.kept_images import KeptImages, keep_images

SIZE = 8 * 8 * 3  # bytes of an image


class Pictures(BaseDataset):
    """Images of a folder, and their masks if there are any."""

    def __init__(self, folder: Path, *loaders) -> None:
        super().__init__(lazy_init=True, serialize_data=False)
        self.data_list = [
            dict(
                img_path=str(path),
                seg_map_path=str(path).replace('.png', '_mask.png'),
                reduce_zero_label=True,
            )
            for path in sorted(folder.glob('?.png'))
        ]
        self._fully_initialized = True
        self.pipeline = Compose(loaders)


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        write(tmp_path / f'{number}.png', 10 * number)
    return tmp_path


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that were decoded."""
    names = []

    def spy(kind):
        original = kind.read

        def read(self, path):
            names.append(Path(path).name)
            return original(self, path)

        monkeypatch.setattr(kind, 'read', read)

    spy(LoadImageFromFile)
    spy(LoadAnnotations)
    return names


def write(path: Path, value: int) -> None:
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path)


def load(dataset) -> list[int]:
    """The first value of every image."""
    return [int(dataset[index]['img'].flat[0]) for index in range(len(dataset))]


def test_each_image_is_decoded_once(folder, reads):
    images = KeptImages(10 * SIZE)
    for _ in range(2):  # trainings
        dataset = Pictures(folder, LoadImageFromFile())
        with images.in_use():
            keep_images(dataset)
            assert [load(dataset) for _ in range(2)] == [[0, 10, 20]] * 2
    assert reads == ['0.png', '1.png', '2.png']
    assert images.size == 3 * SIZE
    load(dataset)  # not in use
    assert len(reads) == 6


def test_a_transform_does_not_change_a_kept_image(folder):
    images = KeptImages(10 * SIZE)
    dataset = Pictures(folder, LoadImageFromFile())
    with images.in_use():
        keep_images(dataset)
        first = dataset[1]['img']
        first += 5
        assert (dataset[1]['img'] == 10).all()
    (kept, *_) = images._images.values()
    with pytest.raises(ValueError, match='read-only'):
        kept += 1


def test_changed_files_and_other_settings_are_decoded_again(folder, reads):
    images = KeptImages(10 * SIZE)
    for loader in (LoadImageFromFile(), LoadImageFromFile(color_type='grayscale')):
        dataset = Pictures(folder, loader)
        with images.in_use():
            keep_images(dataset)
            assert load(dataset) == [0, 10, 20]
    assert len(reads) == 6
    write(folder / '1.png', 7)
    os.utime(folder / '1.png', ns=(1, 1))  # the size may be the same
    with images.in_use():
        keep_images(dataset)
        assert load(dataset) == [0, 7, 20]
    assert reads[6:] == ['1.png']


def test_the_limit(folder, reads, tmp_path):
    """What does not fit is decoded every time; images of earlier trainings make room."""
    images = KeptImages(2 * SIZE + 1)
    dataset = Pictures(folder, LoadImageFromFile())
    with images.in_use():
        keep_images(dataset)
        assert load(dataset) == [0, 10, 20]
    assert images.size == 2 * SIZE
    assert reads[-1] == '2.png' and reads.count('2.png') == 2
    del reads[:]
    (tmp_path / 'other').mkdir()
    write(tmp_path / 'other' / '5.png', 50)
    other = Pictures(tmp_path / 'other', LoadImageFromFile())
    with images.in_use():
        keep_images(other)
        assert load(other) == [50]
        assert images.size == 2 * SIZE
        assert load(dataset) == [0, 10, 20]
    assert reads == ['5.png', '0.png', '2.png']


def test_masks_are_kept(folder, reads):
    for number in range(3):
        mask = np.full((8, 8), number, np.uint8)
        Image.fromarray(mask).save(folder / f'{number}_mask.png')
    images = KeptImages(10 * SIZE)
    dataset = Pictures(folder, LoadImageFromFile(), LoadAnnotations())
    with images.in_use():
        keep_images(dataset)
        del reads[:]
        labels = [int(dataset[index]['gt_seg_map'].max()) for index in range(3)]
    assert labels == [255, 0, 1]
    assert not reads


def test_a_broken_file_is_an_error_when_it_is_used(folder):
    (folder / '1.png').write_bytes(b'broken')
    images = KeptImages(10 * SIZE)
    dataset = Pictures(folder, LoadImageFromFile())
    with images.in_use():
        keep_images(dataset)
        assert dataset[2]['img'].max() == 20
        with pytest.raises(ValueError, match=r'1\.png cannot be decoded'):
            dataset[1]
    assert images.size == 2 * SIZE


def test_files_of_a_backend_are_not_kept(folder):
    images = KeptImages(10 * SIZE)
    dataset = Pictures(folder, LoadImageFromFile(backend_args=dict(backend='local')))
    with images.in_use():
        keep_images(dataset)
        assert load(dataset) == [0, 10, 20]
    assert images.size == 0


def test_no_image_is_sent_to_spawned_processes(folder):
    images = KeptImages(10 * SIZE)
    dataset = Pictures(folder, LoadImageFromFile())
    with images.in_use():
        keep_images(dataset)
        assert len(pickle.dumps(dataset.pipeline)) < SIZE * 5
    assert kept_images._in_use is None


def test_random_numbers_of_a_data_set_do_not_count(folder):
    class Drawing(Pictures):
        def get_data_info(self, index):
            np.random.rand()
            return super().get_data_info(index)

    np.random.seed(0)
    expected = np.random.rand()
    np.random.seed(0)
    with KeptImages(10 * SIZE).in_use():
        keep_images(Drawing(folder, LoadImageFromFile()))
    assert np.random.rand() == expected
