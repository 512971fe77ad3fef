"""Task files and pictures for the page."""

import numpy as np
import pytest
from PIL import Image
from task_jobs import make_job


@pytest.fixture(scope='session')
def task_folder(tmp_path_factory):
    """A folder with task files of a classifier, ``birds.pth``, and a segmentor, ``streets.pth``."""
    folder = tmp_path_factory.mktemp('tasks')
    config = 'cub25/toast-last_vit-1m_1xb32-20e_cub25-64x64.py'
    make_job(folder, 'birds', config, ['<b>finch</b>', 'owl', 'wren'])
    config = 'camvid/toast-vit-1m_upernet_1xb8-600_camvid-96x96.py'
    make_job(folder, 'streets', config, ['sky', 'road', 'tree', 'car'])
    return folder


@pytest.fixture(scope='session')
def photo(tmp_path_factory):
    """A picture like a photograph: a JPEG file whose pixels lie on their side."""
    height, width = 900, 1200
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    fields = (x // 80 + y // 60) % 2 * 160 + rng.integers(0, 40, (height, width))
    pixels = np.stack([x / width * 255, y / height * 255, fields], axis=-1)
    exif = Image.Exif()
    exif[0x0112] = 6  # the orientation: turn it clockwise
    path = tmp_path_factory.mktemp('photos') / 'photo.jpg'
    Image.fromarray(pixels.astype(np.uint8)).save(path, exif=exif, quality=92)
    return path
