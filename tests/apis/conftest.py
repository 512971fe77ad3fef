"""Jobs and pictures of the Python interface."""

import numpy as np
import pytest
from PIL import Image
from task_jobs import Job, make_job


@pytest.fixture(scope='session')
def birds(tmp_path_factory) -> Job:
    """A classifier of three species."""
    config = 'cub25/toast-last_vit-1m_1xb32-20e_cub25-64x64.py'
    return make_job(
        tmp_path_factory.mktemp('birds'), 'birds', config, ['<b>finch</b>', 'owl', 'wren']
    )


@pytest.fixture(scope='session')
def streets(tmp_path_factory) -> Job:
    """A segmentor of four classes."""
    config = 'camvid/toast-vit-1m_upernet_1xb8-600_camvid-96x96.py'
    classes = ['sky', 'road', 'tree', 'car']
    return make_job(tmp_path_factory.mktemp('streets'), 'streets', config, classes)


@pytest.fixture(scope='session')
def photos(tmp_path_factory) -> list[str]:
    """Three pictures of other sizes, of which no colour channel resembles another."""
    folder = tmp_path_factory.mktemp('photos')
    paths = []
    for number, (height, width) in enumerate([(60, 80), (60, 80), (90, 50)]):
        rng = np.random.default_rng(number)
        red, green = np.linspace(0, 255, height), np.linspace(90, 20, width)
        image = rng.integers(0, 40, (height, width, 3))
        image[..., 0] = np.maximum(image[..., 0], red[:, None])
        image[..., 1] += green.astype(int)
        paths.append(str(folder / f'{number}.png'))
        Image.fromarray(image.astype(np.uint8)).save(paths[-1])
    return paths
