"""Exports of Label Studio."""

import json

import numpy as np
import pytest
from painted import draw, inside, mask_of

from toast_mm.conversion import ConversionError
from toast_mm.conversion.readers import read_label_studio
from toast_mm.conversion.readers.label_studio import brush


def packed(bits: str) -> list[int]:
    """Bytes of a string of bits."""
    bits += '0' * (-len(bits) % 8)
    return [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]


def encoded(mask, runs: bool) -> list[int]:
    """A brush as Label Studio's own front end packs it."""
    values = np.repeat(mask.ravel() * 255, 4)
    bits = f'{len(values):032b}' + f'{7:05b}' + ''.join(f'{size - 1:04b}' for size in (3, 4, 8, 16))
    start = 0
    while start < len(values):
        end = start
        while end < len(values) and values[end] == values[start]:
            end += 1
        if runs:
            bits += f'1{3:02b}{end - start - 1:016b}{values[start]:08b}'
        else:
            end = min(start + 8, len(values))  # as they are, eight at a time
            bits += f'0{0:02b}{end - start - 1:03b}'
            bits += ''.join(f'{value:08b}' for value in values[start:end])
        start = end
    return packed(bits)


@pytest.fixture
def read(tmp_path):
    """Read results of one image of 40 x 30."""
    draw(tmp_path / 'images' / 'a b.png')

    def read(*results, url='/data/upload/3/1f2e3d4c-a%20b.png', annotations=None, **options):
        done = [dict(result=results)] if annotations is None else annotations
        path = tmp_path / 'export.json'
        path.write_text(json.dumps([dict(id=11, data=dict(image=url), annotations=done)]))
        return read_label_studio(path, tmp_path / 'images', **options)

    return read


def result(kind, label, **value):
    sizes = dict(original_width=40, original_height=30, image_rotation=0)
    return dict(type=kind, value={**value, kind: [label]}, **sizes)


def test_polygon_and_rectangle(read, tmp_path):
    """Coordinates are percent."""
    found = read(
        result('polygonlabels', 'b', points=[[10, 10], [75, 20], [30, 90]]),
        result('rectanglelabels', 'a', x=5, y=10, width=45, height=20, rotation=0),
    )
    expected = 2 * inside([(4, 3), (30, 6), (12, 27)], 30, 40)[0]
    expected[3:9, 2:20] = 1
    np.testing.assert_array_equal(mask_of(found, tmp_path / 'out'), expected)


def test_rotation_and_ellipse(read, tmp_path):
    """A rectangle turns about its upper left corner: 8 x 3 at (20, 3) by 90 degrees is 3 x 8."""
    found = read(
        result('rectanglelabels', 'a', x=50, y=10, width=20, height=10, rotation=90),
        result('ellipselabels', 'b', x=75, y=50, radiusX=10, radiusY=20, rotation=0),
    )
    mask = mask_of(found, tmp_path / 'out')
    expected = np.zeros((30, 40), bool)
    expected[3:11, 17:20] = True
    np.testing.assert_array_equal(mask == 1, expected)
    ys, xs = np.mgrid[:30, :40] + 0.5
    np.testing.assert_array_equal(mask == 2, ((xs - 30) / 4) ** 2 + ((ys - 15) / 6) ** 2 <= 1)


@pytest.mark.parametrize('runs', [True, False])
def test_brush(read, tmp_path, runs):
    pixels = np.zeros((30, 40), int)
    pixels[4:9, 7:31] = 1
    pixels[20, ::3] = 1
    found = read(result('brushlabels', 'a', format='rle', rle=encoded(pixels, runs)))
    np.testing.assert_array_equal(mask_of(found, tmp_path / 'out'), pixels)


def test_brush_by_hand():
    """Two pixels: one run of three zeros, then alpha 255 and four zeros as they are."""
    bits = f'{8:032b}' + '00111' + '0010' * 4  # 8 values of 8 bits, counters of 3 bits
    bits += '10101000000000'
    bits += '01010011111111' + '00000000' * 4
    np.testing.assert_array_equal(brush(packed(bits), 1, 2), [[True, False]])


def test_broken_brushes():
    code = encoded(np.ones((2, 3), int), True)
    with pytest.raises(ConversionError, match='its brush is cut off'):
        brush(code[:-3], 2, 3)
    with pytest.raises(ConversionError, match='24 values, but 4 x 3 pixels have 48'):
        brush(code, 3, 4)
    longer = packed(f'{4:032b}' + '00111' + '0010' * 4 + '100111' + '1' * 8)
    with pytest.raises(ConversionError, match='more values than it says'):
        brush(longer, 1, 1)


def test_choices(read):
    choice = dict(type='choices', value=dict(choices=['cat']))
    assert read(choice).items[0].label == 'cat'
    found = read(choice, dict(type='choices', value=dict(choices=['cat', 'dog'])))
    assert found.items[0].label == 'cat'
    assert found.skipped[0].why == 'its choices cat, dog: an image has one class'


def test_annotations(read):
    polygon = result('polygonlabels', 'b', points=[[10, 10], [75, 20], [30, 90]])
    done = [dict(was_cancelled=True, result=[]), dict(result=[polygon]), dict(result=[])]
    found = read(annotations=done)
    assert found.items[0].layers[0].label == 'b'
    assert found.skipped[0].why == '1 annotations besides the first'
    assert read(annotations=[]).items[0].layers == []


@pytest.mark.parametrize(
    'url',
    [
        '/data/upload/3/1f2e3d4c-a%20b.png',
        'https://example.com/some/a%20b.png',
        '/data/local-files/?d=images/a%20b.png',
        's3://bucket/a%20b.png',
    ],
)
def test_images(read, tmp_path, url):
    assert read(url=url).items[0].image == tmp_path / 'images' / 'a b.png'
    assert read(url='/x/missing.png').items[0].image == tmp_path / 'images' / 'missing.png'


@pytest.mark.parametrize(
    'wrong, why',
    [
        (dict(type='keypointlabels', value={}), 'keypointlabels is no annotation of an area'),
        (result('polygonlabels', 'a', points=[[1, 1]]), 'a polygon of 1 points'),
        (result('rectanglelabels', 'a', x=1, y=1, width=1), "'height' is missing"),
        (result('brushlabels', 'a', format='png', rle=[]), "its format 'png' is not"),
        (result('polygonlabels', 'a', points=[]) | dict(image_rotation=90), 'turned by 90'),
        (result('polygonlabels', 'a', points=[]) | dict(original_width=41), 'of other sizes'),
    ],
)
def test_wrong_results_are_skipped(read, wrong, why):
    good = result('rectanglelabels', 'a', x=5, y=10, width=45, height=20)
    found = read(good, wrong)
    (skipped,) = found.skipped
    assert skipped.what.endswith('export.json, task 11') and why in skipped.why
    assert len(found.items[0].layers) == 1


def test_wrong_files(read, tmp_path):
    path = tmp_path / 'export.json'
    path.write_text('{}')
    with pytest.raises(ConversionError, match='is no list of tasks: export "JSON"'):
        read_label_studio(path, tmp_path)
    path.write_text('[{"id": 1, "data": {"a": "x/y", "b": "y/z"}, "annotations": []}]')
    with pytest.raises(ConversionError, match='task 1: --key must say which of a, b is the image'):
        read_label_studio(path, tmp_path)
    assert read_label_studio(path, tmp_path, key='b').items[0].name == 'z'
    path.write_text('[3]')
    with pytest.raises(ConversionError, match='task 3 is not as the format has it'):
        read_label_studio(path, tmp_path)
