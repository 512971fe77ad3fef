"""Files of labelme."""

import base64
import io
import json

import numpy as np
import pytest
from painted import draw, inside, mask_of
from PIL import Image

from toast_mm.conversion import ConversionError
from toast_mm.conversion.readers import read_labelme


@pytest.fixture
def read(tmp_path):
    """Read shapes of one image of 40 x 30."""
    draw(tmp_path / 'labelled' / 'photos' / 'a.jpg')

    def read(*shapes, image='photos\\a.jpg', **fields):
        data = dict(
            version='5.5.0',
            flags={},
            shapes=shapes,
            imagePath=image,
            imageData=None,
            imageHeight=30,
            imageWidth=40,
        )
        (tmp_path / 'labelled' / 'a.json').write_text(json.dumps(data | fields))
        return read_labelme(tmp_path / 'labelled')

    return read


def test_polygon_rectangle_circle(read, tmp_path):
    triangle = [[3.5, 2], [30, 6.25], [11, 27]]
    found = read(
        dict(label='b', points=triangle),  # files of old versions name no type
        dict(label='a', points=[[20, 9], [2, 3]], shape_type='rectangle'),
        dict(label='__ignore__', points=[[30, 20], [33, 24]], shape_type='circle'),
    )
    mask = mask_of(found, tmp_path / 'out', ignored=['__ignore__'], background='_background_')
    expected = 2 * inside(triangle, 30, 40)[0]
    expected[3:9, 2:20] = 1
    ys, xs = np.mgrid[:30, :40] + 0.5
    expected[(xs - 30) ** 2 + (ys - 20) ** 2 <= 25] = 255
    np.testing.assert_array_equal(mask, expected)
    assert (tmp_path / 'out' / 'classes.txt').read_text() == '_background_\na\nb\n'


def test_a_hole_is_background(read, tmp_path):
    found = read(
        dict(label='a', points=[[2, 2], [20, 20]], shape_type='rectangle'),
        dict(label='_background_', points=[[5, 5], [9, 9]], shape_type='rectangle'),
    )
    expected = np.zeros((30, 40), int)
    expected[2:20, 2:20] = 1
    expected[5:9, 5:9] = 0
    mask = mask_of(found, tmp_path / 'out', background='_background_')
    np.testing.assert_array_equal(mask, expected)


def test_mask(read, tmp_path):
    pixels = np.random.default_rng(0).random((6, 5)) > 0.5
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG')  # one bit per pixel, as labelme writes it
    code = base64.b64encode(file.getvalue()).decode()
    shape = dict(label='a', points=[[10, 4], [14, 9]], shape_type='mask', mask=code)
    expected = np.zeros((30, 40), int)
    expected[4:10, 10:15] = pixels
    np.testing.assert_array_equal(mask_of(read(shape), tmp_path / 'out'), expected)


def test_flags_are_classes(read):
    assert read(flags=dict(cat=True, dog=False)).items[0].label == 'cat'
    found = read(flags=dict(cat=True, dog=True))
    assert found.items[0].label is None
    assert found.skipped[0].why == 'its flags cat, dog: an image has one class'


@pytest.mark.parametrize(
    'shape, why',
    [
        (dict(label='a', points=[[1, 1], [2, 2]], shape_type='line'), 'a line has no area'),
        (dict(label='a', points=[[1, 1]], shape_type='rectangle'), 'not enough values'),
        (dict(label='a', points=[[1, 1]] * 2, shape_type='circle'), 'radii 0.0 and 0.0'),
        (
            dict(label='a', points=[[1, 1]] * 2, shape_type='mask', mask='AAAA'),
            'its mask is no image',
        ),
        (dict(points=[[1, 1], [2, 2], [3, 1]]), "'label' is missing"),
    ],
)
def test_wrong_shapes_are_skipped(read, shape, why):
    found = read(shape)
    (skipped,) = found.skipped
    assert skipped.what.endswith('a.json, shape 0') and why in skipped.why
    assert found.items[0].layers == []


def test_images_elsewhere(read, tmp_path):
    read()
    (item,) = read_labelme(tmp_path / 'labelled', tmp_path / 'elsewhere').items
    assert (item.image, item.name) == (tmp_path / 'elsewhere' / 'a.jpg', 'a')


def test_other_files(read, tmp_path):
    (tmp_path / 'labelled' / 'notes.json').write_text('{"version": 1}')
    assert read().skipped[0].why == 'it is no file of labelme: it has no "shapes"'
    with pytest.raises(ConversionError, match=r'a\.json is not as the format has it'):
        read(imageWidth=None)
    with pytest.raises(ConversionError, match='nowhere has no JSON file'):
        read_labelme(tmp_path / 'nowhere')
