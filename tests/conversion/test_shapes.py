"""Pixels of shapes."""

import numpy as np
import pytest
from painted import assert_covers, inside

from toast_mm.conversion import ConversionError
from toast_mm.conversion.items import EMPTY
from toast_mm.conversion.shapes import (
    Bitmap,
    Ellipse,
    Polygon,
    Region,
    from_runs,
    rectangle,
    turned,
)


@pytest.mark.parametrize('seed', range(8))
def test_polygon(seed):
    """Also with points outside the image and edges that cross."""
    points = np.random.default_rng(seed).uniform(-10, 50, (6, 2))
    assert_covers(Polygon([points.tolist()]).fill(40, 36), points)


def test_rectangle_exactly():
    expected = np.zeros((20, 30), bool)
    expected[3:8, 2:10] = True
    np.testing.assert_array_equal(rectangle(10, 8, 2, 3).fill(20, 30), expected)
    assert rectangle(10, 8, 2, 3).box() == (2, 3, 10, 8)


def test_rings_are_united_or_holes():
    outer, inner = [(2, 2), (12, 2), (12, 12), (2, 12)], [(4, 4), (8, 4), (8, 8), (4, 8)]
    solid, _ = inside(outer, 20, 20)
    hole, _ = inside(inner, 20, 20)
    np.testing.assert_array_equal(Polygon([outer, inner]).fill(20, 20), solid)
    np.testing.assert_array_equal(Polygon([outer, inner], holes=True).fill(20, 20), solid & ~hole)


@pytest.mark.parametrize('degrees', [0, 30, 90])
def test_ellipse(degrees):
    """Compared with a polygon of many points."""
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    points = np.column_stack([20 + 12 * np.cos(angles), 15 + 5 * np.sin(angles)])
    shape = Ellipse(20, 15, 12, 5, degrees)
    points = turned(points, (20, 15), degrees)
    expected, distance = inside(points, 30, 40)
    sure = distance > 0.05
    np.testing.assert_array_equal(shape.fill(30, 40)[sure], expected[sure])
    xs, ys = np.transpose(points)
    assert shape.box() == pytest.approx((xs.min(), ys.min(), xs.max(), ys.max()), abs=0.01)


def test_turned_is_clockwise_in_an_image():
    assert turned([(3, 1)], (1, 1), 90)[0] == pytest.approx((1, 3))


@pytest.mark.parametrize('left, top', [(0, 0), (-2, 1), (7, -1), (20, 20), (-9, -9)])
def test_bitmap(left, top):
    pixels = np.random.default_rng(0).random((4, 5)) > 0.4
    expected = np.zeros((8, 10), bool)
    for y, x in np.argwhere(pixels):
        if 0 <= y + top < 8 and 0 <= x + left < 10:
            expected[y + top, x + left] = True
    np.testing.assert_array_equal(Bitmap(pixels, left, top).fill(8, 10), expected)


def test_runs():
    expected = [[0, 0, 1], [1, 1, 0]]
    np.testing.assert_array_equal(from_runs([2, 3, 1], 2, 3), expected)
    np.testing.assert_array_equal(from_runs([0, 6], 2, 3), np.ones((2, 3)))
    with pytest.raises(ConversionError, match='make up 5 pixels, but 3 x 2 are 6'):
        from_runs([2, 3], 2, 3)
    with pytest.raises(ConversionError, match='make up 6'):
        from_runs([4, -1, 3], 2, 3)


def test_paint_covers_what_is_there():
    canvas = np.full((6, 8), EMPTY)
    numbers = {'a': 1, 'b': 2}
    first = Region('a', rectangle(0, 0, 4, 4)).paint(canvas, numbers)
    again = Region('a', rectangle(0, 0, 2, 2)).paint(canvas, numbers)
    second = Region('b', rectangle(3, 3, 10, 5)).paint(canvas, numbers)
    unknown = Region('c', rectangle(0, 0, 8, 6)).paint(canvas, numbers)
    beyond = Region('b', rectangle(9, 0, 12, 2)).paint(canvas, numbers)
    assert (first.outside, first.nothing, first.covered, again.covered) == (False, False, 0, 0)
    assert (second.outside, second.nothing, second.covered) == (True, False, 1)
    assert beyond.nothing and unknown.covered == 0
    expected = np.full((6, 8), EMPTY)
    expected[:4, :4] = 1
    expected[3:5, 3:] = 2
    np.testing.assert_array_equal(canvas, expected)


@pytest.mark.parametrize('far', [1e12, -500])
def test_coordinates_that_are_no_pixels(far):
    canvas = np.full((6, 8), EMPTY)
    with pytest.raises(ConversionError, match=r"'a' reaches .* no pixels of an image of 8 x 6"):
        Region('a', Polygon([[(0, 0), (far, 1), (3, 3)]])).paint(canvas, {'a': 1})


def test_shapes_without_area():
    with pytest.raises(ConversionError, match='a polygon of 2 points has no area'):
        Polygon([[(0, 0), (1, 1)]])
    with pytest.raises(ConversionError, match='a polygon has points that are infinite or no num'):
        Polygon([[(0, 0), (float('nan'), 1), (3, 3)]])
    with pytest.raises(ConversionError, match='an ellipse has values that are infinite'):
        Ellipse(float('inf'), 1, 2, 3)
    with pytest.raises(ConversionError, match='radii 0 and 3'):
        Ellipse(1, 1, 0, 3)
