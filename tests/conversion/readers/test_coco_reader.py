"""Annotations of COCO."""

import json

import numpy as np
import pytest
from painted import draw, inside, mask_of

from toast_mm.conversion import ConversionError
from toast_mm.conversion.readers import read_coco

TRIANGLE = [(3.5, 2), (30, 6.25), (11, 27)]
OUTER, INNER = [(2, 2), (20, 2), (20, 20), (2, 20)], [(5, 5), (9, 5), (9, 9), (5, 9)]


def flat(points):
    return [value for point in points for value in point]


@pytest.fixture
def read(tmp_path):
    """Read annotations, each of one image of 40 x 30."""
    draw(tmp_path / 'images' / 'video' / 'a.jpg')

    def read(*annotations, categories=('cat', 'dog'), record=None, **options):
        data = dict(
            images=[dict(id=7, file_name='video/a.jpg', width=40, height=30) | (record or {})],
            annotations=[
                dict(id=number, image_id=7, category_id=5) | annotation
                for number, annotation in enumerate(annotations)
            ],
            categories=[
                dict(id=5 + n, name=name) for n, name in reversed([*enumerate(categories)])
            ],
        )
        path = tmp_path / 'coco.json'
        path.write_text(json.dumps(data))
        return read_coco(path, tmp_path / 'images', **options)

    return read


def test_polygons_and_overlap(read, tmp_path):
    """The later annotation wins, in the order of the file."""
    found = read(
        dict(segmentation=[flat(TRIANGLE)], category_id=6), dict(segmentation=[flat(OUTER)])
    )
    mask = mask_of(found, tmp_path / 'out')
    expected = 2 * inside(TRIANGLE, 30, 40)[0]
    expected[inside(OUTER, 30, 40)[0]] = 1
    np.testing.assert_array_equal(mask, expected)
    assert (tmp_path / 'out' / 'classes.txt').read_text() == 'background\ncat\ndog\n'
    assert found.items[0].name == 'video/a'


def test_several_polygons(read, tmp_path):
    both = dict(segmentation=[flat(OUTER), flat(INNER)])
    solid, hole = inside(OUTER, 30, 40)[0], inside(INNER, 30, 40)[0]
    np.testing.assert_array_equal(mask_of(read(both), tmp_path / 'union'), solid)
    holes = mask_of(read(both, holes=True), tmp_path / 'holes')
    np.testing.assert_array_equal(holes, solid & ~hole)


def test_runs_by_columns(read, tmp_path):
    """By hand: 3 pixels off, 4 on, the rest off, down the columns of 30."""
    expected = np.zeros((30, 40), int)
    expected[3:7, 0] = 1
    runs = dict(size=[30, 40], counts=[3, 4, 30 * 40 - 7])
    np.testing.assert_array_equal(
        mask_of(read(dict(segmentation=runs)), tmp_path / 'out'), expected
    )


def test_compressed_runs(tmp_path, read):
    """The code is by pycocotools 2.0.11."""
    draw(tmp_path / 'images' / 'video' / 'a.jpg', (50, 60))
    ys, xs = np.mgrid[:60, :50]
    expected = (xs - 20) ** 2 + (ys - 30) ** 2 <= 81
    expected[3:7, 40:] = True
    expected[::7, 5] = True
    found = read(
        dict(segmentation=dict(size=[60, 50], counts=COMPRESSED)),
        record=dict(width=50, height=60),
    )
    np.testing.assert_array_equal(mask_of(found, tmp_path / 'out'), expected)


COMPRESSED = r'\916000000000000000W:0ZG8K2N2N2N2O00000O20N1000001N2N2N2N5HQb03P^O00000000000000000M'


def test_crowds(read, tmp_path):
    crowd = dict(segmentation=dict(size=[30, 40], counts=[0, 60, 30 * 40 - 60]), iscrowd=1)
    polygon = dict(segmentation=[flat(OUTER)], category_id=6)
    solid = 2 * inside(OUTER, 30, 40)[0]
    for crowds, number in (('class', 1), ('ignore', 255), ('skip', 0)):
        found = read(crowd, polygon, crowds=crowds)
        mask = mask_of(found, tmp_path / crowds, ignored=['crowd'] if crowds == 'ignore' else [])
        expected = solid.copy()
        expected[:, :2] = number
        np.testing.assert_array_equal(mask, np.where(solid, solid, expected))
    assert [one.why for one in found.skipped] == ['it is a crowd (--crowds skip)']


def test_boxes(read, tmp_path):
    box = dict(bbox=[4, 5, 10, 6])
    found = read(box)
    assert found.items[0].layers == []
    assert 'no segmentation; --boxes takes its box' in found.skipped[0].why
    expected = np.zeros((30, 40), int)
    expected[5:11, 4:14] = 1
    np.testing.assert_array_equal(mask_of(read(box, boxes=True), tmp_path / 'out'), expected)


@pytest.mark.parametrize(
    'annotation, why',
    [
        (dict(segmentation=[[1, 2, 3, 4]]), 'a polygon of 2 points has no area'),
        (dict(segmentation=[[1, 2, 3]]), 'argument 2 is shorter'),
        (dict(segmentation=dict(size=[30, 40], counts=[1, 2])), 'its runs make up 3 pixels'),
        (dict(segmentation=dict(size=[30, 40], counts='52')), 'its runs make up'),
        (dict(segmentation=dict(size=[30, 40], counts='5\u00e4')), 'has the character'),
        (dict(segmentation=dict(size=[20, 40], counts=[800])), 'its mask is of 40 x 20 pixels'),
        (dict(segmentation=[['a', 'b'] * 3]), 'not as the format has it'),
    ],
)
def test_wrong_annotations_are_skipped(read, annotation, why):
    found = read(annotation, dict(segmentation=[flat(OUTER)]))
    assert len(found.items[0].layers) == 1
    (skipped,) = found.skipped
    assert skipped.what.endswith('coco.json, annotation 0') and why in skipped.why


def test_annotations_of_no_image(read):
    found = read(dict(segmentation=[flat(OUTER)], image_id=8))
    assert (
        found.skipped[0].what.endswith('image 8') and '1 annotations of no' in found.skipped[0].why
    )


def test_wrong_files(read, tmp_path):
    with pytest.raises(ConversionError, match='two categories of one name'):
        read(categories=('cat', 'cat'))
    with pytest.raises(ConversionError, match=r'coco\.json, annotation 0 .* 99 is missing'):
        read(dict(segmentation=[flat(OUTER)], category_id=99))
    with pytest.raises(ConversionError, match='image 7 is not as the format has it'):
        read(record=dict(width=None))
    path = tmp_path / 'coco.json'
    path.write_text('{}')
    with pytest.raises(ConversionError, match="'categories' is missing"):
        read_coco(path, tmp_path)
    path.write_text('{"images": [')
    with pytest.raises(ConversionError, match=r'coco\.json is no JSON'):
        read_coco(path, tmp_path)
