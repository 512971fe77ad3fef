"""Exports of CVAT."""

import numpy as np
import pytest
from painted import draw, inside, mask_of

from toast_mm.conversion import ConversionError
from toast_mm.conversion.readers import read_cvat

LABELS = [('road', '#804080'), ('car', '#00008e')]


@pytest.fixture
def read(tmp_path):
    """Read shapes of one image of 40 x 30."""
    draw(tmp_path / 'images' / 'a.png')

    def read(*shapes, size=(40, 30)):
        labels = ''.join(
            f'<label><name>{name}</name><color>{colour}</color></label>' for name, colour in LABELS
        )
        path = tmp_path / 'annotations.xml'
        path.write_text(
            '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>'
            f'<meta><task><labels>{labels}</labels></task></meta>'
            f'<image id="0" name="a.png" width="{size[0]}" height="{size[1]}">{"".join(shapes)}'
            '</image></annotations>'
        )
        return read_cvat(path, tmp_path / 'images')

    return read


def test_polygon_and_order(read, tmp_path):
    """The z-order is before the order of the file."""
    found = read(
        '<polygon label="car" points="3.5,2.0;30.0,6.25;11.0,27.0" z_order="1"/>',
        '<box label="road" xtl="2" ytl="3" xbr="20.0" ybr="9" z_order="0"/>',
    )
    expected = np.zeros((30, 40), int)
    expected[3:9, 2:20] = 1
    expected[inside([(3.5, 2), (30, 6.25), (11, 27)], 30, 40)[0]] = 2
    np.testing.assert_array_equal(mask_of(found, tmp_path / 'out'), expected)
    classes = (tmp_path / 'out' / 'classes.txt').read_text()
    assert classes == 'background 0 0 0\nroad 128 64 128\ncar 0 0 142\n'


def test_mask(read, tmp_path):
    """By hand: 3 columns, 4 rows, runs by rows."""
    pixels = np.array([[0, 0, 1], [1, 1, 1], [0, 1, 0], [1, 0, 0]])
    expected = np.zeros((30, 40), int)
    expected[5:9, 10:13] = pixels
    rle = '<mask label="road" rle="2, 4, 1, 1, 1, 1, 2" left="10" top="5" width="3" height="4"/>'
    np.testing.assert_array_equal(mask_of(read(rle), tmp_path / 'out'), expected)


def test_turned_box_and_ellipse(read, tmp_path):
    """A box turns about its centre: one of 4 x 8 by 90 degrees covers 8 x 4."""
    found = read(
        '<box label="road" xtl="10" ytl="10" xbr="14" ybr="18" rotation="90.0"/>',
        '<ellipse label="car" cx="30" cy="15" rx="6" ry="3" rotation="90"/>',
    )
    mask = mask_of(found, tmp_path / 'out')
    expected = np.zeros((30, 40), bool)
    expected[12:16, 8:16] = True
    np.testing.assert_array_equal(mask == 1, expected)
    ys, xs = np.mgrid[:30, :40] + 0.5
    np.testing.assert_array_equal(mask == 2, ((xs - 30) / 3) ** 2 + ((ys - 15) / 6) ** 2 <= 1)


def test_tags(read):
    (item,) = read('<tag label="car"/>').items
    assert (item.label, item.layers, item.size) == ('car', [], (40, 30))
    found = read('<tag label="car"/>', '<tag label="road"/>')
    assert found.items[0].label is None
    assert found.skipped[0].why == 'its tags car, road: an image has one class'


@pytest.mark.parametrize(
    'shape, why',
    [
        ('<polyline label="car" points="1,1;2,2"/>', 'a polyline has no area'),
        ('<polygon label="car" points="1,1;2"/>', 'not as the format has it'),
        ('<polygon points="1,1;2,2;3,1"/>', "'label' is missing"),
        ('<mask label="car" rle="2,x" left="0" top="0" width="3" height="4"/>', 'invalid literal'),
        ('<mask label="car" rle="2" left="0" top="0" width="3" height="4"/>', 'make up 2 pixels'),
        ('<box label="car" xtl="1" ytl="1" xbr="nan" ybr=""/>', 'could not convert'),
    ],
)
def test_wrong_shapes_are_skipped(read, shape, why):
    found = read(shape)
    (skipped,) = found.skipped
    assert skipped.what.endswith('annotations.xml, image a.png') and why in skipped.why
    assert found.items[0].layers == []


def test_wrong_files(read, tmp_path):
    path = tmp_path / 'annotations.xml'
    path.write_text('<annotations><track/></annotations>')
    with pytest.raises(ConversionError, match='no images but tracks of a video: export it as'):
        read_cvat(path, tmp_path)
    path.write_text('<annotations>')
    with pytest.raises(ConversionError, match=r'annotations\.xml is no XML'):
        read_cvat(path, tmp_path)
    with pytest.raises(ConversionError, match=r'image a\.png is not as the format has it'):
        read(size=('wide', 30))
