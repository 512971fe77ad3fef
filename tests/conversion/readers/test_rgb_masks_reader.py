"""Masks in colours."""

import numpy as np
import pytest
from painted import draw, mask_of
from PIL import Image

from toast_mm.conversion import ConversionError
from toast_mm.conversion.readers import read_rgb_masks

PALETTE = dict(road=(128, 64, 128), sky=(0, 0, 0), void=(255, 255, 255))
LABELS = np.random.default_rng(0).integers(0, 3, (30, 40))


@pytest.fixture
def masks(tmp_path):
    """Write a mask of colours, by number of the class, or of another mode."""
    draw(tmp_path / 'images' / 'x' / 'a.jpg')

    def write(labels=LABELS, name='x/a.png', mode='RGB', **pixels):
        colours = np.array([*PALETTE.values()], np.uint8)[labels]
        for place, colour in pixels.items():
            y, x = map(int, place.split('_')[1:])
            colours[y, x] = colour
        path = tmp_path / 'masks' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(colours).convert(mode)
        if mode == 'P':
            image = Image.fromarray(labels.astype(np.uint8))
            image.putpalette([value for colour in PALETTE.values() for value in colour])
        image.save(path)
        return tmp_path / 'images', tmp_path / 'masks'

    return write


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'P'])
def test_numbers(masks, tmp_path, mode):
    found = read_rgb_masks(*masks(mode=mode), PALETTE)
    mask = mask_of(found, tmp_path / 'out', background=None, ignored=['void'])
    np.testing.assert_array_equal(mask, np.where(LABELS == 2, 255, LABELS))
    assert (tmp_path / 'out' / 'classes.txt').read_text() == 'road 128 64 128\nsky 0 0 0\n'
    assert found.items[0].labels() == {*PALETTE}


def test_foreign_colours(masks):
    folders = masks(_3_7=(1, 2, 3), _3_9=(1, 2, 3), _29_0=(9, 9, 9))
    masks(name='b.png', _0_0=(4, 4, 4))
    draw(folders[0] / 'b.jpg')
    with pytest.raises(ConversionError) as error:
        read_rgb_masks(*folders, PALETTE)
    one, other = str(error.value).splitlines()  # all files
    assert one.endswith('b.png has colours that are no class: 4 4 4 in 1 pixels, first at x=0 y=0')
    assert other.endswith(
        'a.png has colours that are no class: 1 2 3 in 2 pixels, first at x=7 y=3; '
        '9 9 9 in 1 pixels, first at x=0 y=29'
    )


def test_blurred_masks(masks):
    pixels = {f'_{y}_{x}': (y, x, 1) for y in range(3) for x in range(4)}
    with pytest.raises(ConversionError, match='; and 7 more colours'):
        read_rgb_masks(*masks(**pixels), PALETTE)


def test_pairs(masks):
    folders = masks(name='x/a_mask.png')
    masks(name='other_mask.png')
    masks(name='x/a.png')
    draw(folders[0] / 'lonely.jpg')
    found = read_rgb_masks(*folders, PALETTE, mask_suffix='_mask')
    assert [(item.name, item.layers[0].path.name) for item in found.items] == [
        ('x/a', 'a_mask.png')
    ]
    assert [(one.what.rsplit('/')[-1], one.why) for one in found.skipped] == [
        ('lonely.jpg', 'it has no mask'), ('other_mask.png', 'it has no image')
    ]  # fmt: skip
    beside = read_rgb_masks(folders[1], folders[1], PALETTE, mask_suffix='_mask')
    assert [item.image.name for item in beside.items] == ['a.png']
    with pytest.raises(ConversionError, match='has no masks named IMAGE_label'):
        read_rgb_masks(*folders, PALETTE, mask_suffix='_label')


def test_wrong_input(masks, tmp_path):
    with pytest.raises(ConversionError, match='the palette has no colour for car'):
        read_rgb_masks(*masks(), PALETTE | dict(car=None))
    masks(name='x/a.bmp')
    with pytest.raises(ConversionError, match=r'a\.bmp and .*a\.png are masks of one image'):
        read_rgb_masks(*masks(), PALETTE)
    (tmp_path / 'masks' / 'x' / 'a.bmp').unlink()
    (tmp_path / 'masks' / 'x' / 'a.png').write_bytes(b'no image')
    with pytest.raises(ConversionError, match=r'a\.png cannot be decoded'):
        read_rgb_masks(tmp_path / 'images', tmp_path / 'masks', PALETTE)
    with pytest.raises(ConversionError, match='nowhere is not a folder'):
        read_rgb_masks(tmp_path / 'nowhere', tmp_path / 'masks', PALETTE)
