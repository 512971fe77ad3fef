"""The picture: a row per sample, a column per kind of map."""

import numpy as np
import pytest
from PIL import Image

from toast_mm.files import WriteError
from toast_mm.visualization import Row, draw_picture

PALETTE = [[0, 0, 0], [230, 25, 75], [0, 130, 200]]
CLASSES = ['ground', 'left', 'right']


def row(*labels, first=0.1, second=0.1) -> Row:
    maps = (np.full((4, 4), value) for value in (0.5, first, second))
    image = np.full((32, 32, 3), 128, np.uint8)
    return Row(image, *maps, caption='' if labels else '3, predicted 5', labels=labels or None)


def draw(path, rows, *args) -> np.ndarray:
    draw_picture(rows, str(path), *args)
    with Image.open(path) as picture:
        return np.array(picture.convert('RGB')).astype(int)


def test_size(tmp_path):
    one = draw(tmp_path / '1.png', [row()])
    three = draw(tmp_path / '3.png', [row()] * 3)
    segmented = draw(tmp_path / 's.png', [row(*[np.zeros((32, 32), int)] * 2)], CLASSES, PALETTE)
    assert three.shape[0] > 2 * one.shape[0] and three.shape[1] == one.shape[1]
    assert segmented.shape[1] == pytest.approx(one.shape[1] * 6 / 4, abs=2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ['1.png', '3.png', 's.png']


def test_labels_have_the_colours_of_their_classes(tmp_path):
    truth = np.zeros((32, 32), int)
    truth[:, :8], truth[:, 8:16] = 1, 255
    prediction = np.full((32, 32), 2)
    picture = draw(tmp_path / 'p.png', [row(truth, prediction)], CLASSES, PALETTE)

    def pixels(colour, columns):
        return (picture[:, columns] == colour).all(-1).sum()

    width = picture.shape[1] // 6  # of one column; there are three before the middle
    panel = pixels(PALETTE[2], slice(2 * width, 3 * width))
    assert panel > 0.5 * width**2
    assert pixels(PALETTE[1], slice(width, 2 * width)) == pytest.approx(panel / 4, rel=0.1)
    assert pixels(PALETTE[0], slice(width, 2 * width)) > panel / 2 - width


def test_both_passes_share_one_scale(tmp_path):
    picture = draw(tmp_path / 'p.png', [row(first=0.1, second=0.4)])
    first, second = (picture[:, side] for side in np.array_split(range(picture.shape[1]), 4)[2:])
    panel = slice(picture.shape[0] // 3, picture.shape[0] // 2)
    middle = slice(first.shape[1] // 3, -first.shape[1] // 3)
    assert second[panel, middle].mean() > first[panel, middle].mean() + 30


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(WriteError, match=r'nowhere/p\.png cannot be written'):
        draw(tmp_path / 'nowhere' / 'p.png', [row()])
