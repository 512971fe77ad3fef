"""From annotations to data sets that mmpretrain and mmsegmentation read."""

import json
from pathlib import Path

import numpy as np
import pytest
from mmpretrain.datasets import CustomDataset
from mmseg.datasets import BaseSegDataset
from painted import draw, inside, mask_of
from PIL import Image

from toast_mm.conversion import Annotations, ConversionError, Item, Options, convert, summary
from toast_mm.conversion.shapes import Polygon, Region, rectangle
from toast_mm.datasets import LoadAnnotations, LoadImageFromFile
from toast_mm.files import WriteError

TRIANGLE = [(3.5, 2), (30, 6.25), (11, 27)]


def labelled(folder, number=20, classes=('cat', 'dog'), **options):
    """Images with a class each."""
    items = []
    for index in range(number):
        path = draw(folder / f'{index:02}.jpg', (8, 6), index, **options)
        label = classes[index % len(classes)]
        items.append(Item(path, f'{index:02}', f'table:{index}', label=label))
    return Annotations(items)


def masked(folder, *labels, size=(40, 30), name='a.jpg', orientation=None):
    """An image with overlapping regions of some labels."""
    path = draw(folder / name, size, orientation=orientation)
    layers = [Region(label, rectangle(n, n, n + 9, n + 9)) for n, label in enumerate(labels)]
    return Item(path, path.stem, f'notes of {name}', layers=layers)


def test_classification(tmp_path):
    report = convert(labelled(tmp_path / 'photos'), tmp_path / 'out', Options(val=0.2, test=0.2))
    assert report.images == dict(train=12, val=4, test=4)
    assert report.per_class == {
        s: dict(cat=n, dog=n) for s, n in dict(train=6, val=2, test=2).items()
    }
    seen = []
    for split, number in report.images.items():
        dataset = CustomDataset(str(tmp_path / 'out' / split), pipeline=[])
        assert len(dataset) == number and dataset.CLASSES == ('cat', 'dog')
        for info in map(dataset.get_data_info, range(number)):
            name = info['img_path'].rsplit('/', 1)[1]
            assert info['gt_label'] == int(name[:2]) % 2
            original = tmp_path / 'photos' / name
            assert Path(info['img_path']).read_bytes() == original.read_bytes()
            seen.append(name)
    assert len({*seen}) == 20


def test_classes_keep_their_numbers_in_all_splits(tmp_path):
    """mmpretrain numbers the folders that are there."""
    found = labelled(tmp_path / 'photos', 3, ('ant', 'bee', 'cat'))
    for item, split in zip(found.items, ('train', 'train', 'val'), strict=True):
        item.split = split
    report = convert(found, tmp_path / 'out')
    for split in ('train', 'val'):
        dataset = CustomDataset(str(tmp_path / 'out' / split), pipeline=[])
        assert dataset.CLASSES == ('ant', 'bee', 'cat')
    assert dataset.get_data_info(0)['gt_label'] == 2
    assert 'val has no image with ant, bee' in report.notes


def test_segmentation(tmp_path):
    found = Annotations()
    for name in ('x/a', 'y/a', 'b'):
        path = draw(tmp_path / 'photos' / f'{name}.jpeg')
        layers = [Region('zebra', Polygon([TRIANGLE])), Region('ant', rectangle(20, 10, 60, 20))]
        split = 'val' if name == 'b' else 'train'
        found.items.append(Item(path, name, name, (40, 30), layers, split=split))
    report = convert(found, tmp_path / 'out')
    expected = 2 * inside(TRIANGLE, 30, 40)[0]
    over = int((expected[10:20, 20:] == 2).sum())
    expected[10:20, 20:] = 1
    dataset = BaseSegDataset(
        data_root=str(tmp_path / 'out'),
        data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
        img_suffix='.jpg',
        metainfo=dict(classes=['background', 'ant', 'zebra']),
        pipeline=[LoadImageFromFile(), LoadAnnotations()],
    )
    assert len(dataset) == 2
    for sample in dataset:
        np.testing.assert_array_equal(sample['gt_seg_map'], expected)
        assert sample['img'].shape == (30, 40, 3)
    assert report.pixels['val'] == {
        'background': int((expected == 0).sum()), 'ant': 200, 'zebra': int((expected == 2).sum()),
        '255': 0,
    }  # fmt: skip
    assert report.images == dict(train=2, val=1)
    assert report.overlaps == dict(outside=3, nothing=0, covered=3 * over)
    text = summary(report, tmp_path / 'out')
    assert '3 annotations reach beyond their images' in text
    assert f'{3 * over} pixels had two classes' in text


def test_no_background_and_no_annotation(tmp_path):
    found = Annotations([masked(tmp_path, 'a'), masked(tmp_path, name='b.jpg')])
    expected = np.full((30, 40), 255)
    expected[:9, :9] = 0
    mask = mask_of(found, tmp_path / 'out', background=None)
    np.testing.assert_array_equal(mask, expected)
    assert 'it has no annotation (--unannotated background keeps it)' in found.skipped[0].why
    options = Options(val=0, test=0, unannotated='background')
    report = convert(found, tmp_path / 'both', options)
    assert report.per_class['train'] == dict(background=2, a=1)


def test_listed_classes(tmp_path):
    found = Annotations([masked(tmp_path, 'b', 'c', 'a')])
    listed = tmp_path / 'classes.txt'
    listed.write_text('ground 9 9 9\nb 1 2 3\na 4 5 6\n')
    with pytest.raises(ConversionError, match=r"lacks 'c' in 1 images; the first is in notes of a"):
        convert(found, tmp_path / 'out', Options(classes=listed, background='ground'))
    options = dict(classes=listed, background='ground')
    masks = {
        unknown: mask_of(found, tmp_path / unknown, unknown=unknown, **options)
        for unknown in ('skip', 'ignore')
    }
    expected = np.zeros((30, 40), int)
    expected[:9, :9] = 1
    expected[2:11, 2:11] = 2
    np.testing.assert_array_equal(masks['skip'], expected)
    expected[1:10, 1:10] = 255
    expected[2:11, 2:11] = 2
    np.testing.assert_array_equal(masks['ignore'], expected)
    written = (tmp_path / 'skip' / 'classes.txt').read_text()
    assert written == 'ground 9 9 9\nb 1 2 3\na 4 5 6\n'


def test_unknown_classes_of_images(tmp_path):
    found = labelled(tmp_path / 'photos', 12, ('cat', 'dog', 'eel'))
    listed = tmp_path / 'classes.txt'
    listed.write_text('cat\ndog\n')
    with pytest.raises(ConversionError, match="lacks 'eel' in 4 images; the first is in table:2"):
        convert(found, tmp_path / 'out', Options(classes=listed))
    report = convert(found, tmp_path / 'out', Options(classes=listed, unknown='skip', test=0))
    assert sum(report.images.values()) == 8
    assert {one.why for one in report.skipped} == {f"its class 'eel' is not in {listed}"}
    listed.write_text('dog\ncat\n')
    with pytest.raises(ConversionError, match='is not sorted, but classes that are folders'):
        convert(found, tmp_path / 'other', Options(classes=listed))


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('suffix', ['jpg', 'png', 'tif'])
def test_exif(tmp_path, orientation, suffix):
    """The mask fits the image as it is read, whatever the coordinates refer to."""
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[4:13, 2:11] = 255  # a white square, and the same annotated
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    path = tmp_path / f'a.{suffix}'
    image.save(path, exif=image.getexif(), quality=95)
    read = LoadImageFromFile()(dict(img_path=str(path)))['img'][..., 0] > 127
    ys, xs = np.nonzero(read)
    displayed = rectangle(xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    for mode, shape, size in (
        ('displayed', displayed, read.shape[::-1]),
        ('stored', rectangle(2, 4, 11, 13), (40, 30)),
    ):
        item = Item(path, 'a', 'notes', size, [Region('white', shape)])
        mask = mask_of(Annotations([item]), tmp_path / mode, orientation=mode)
        np.testing.assert_array_equal(mask, read)
        if orientation > 4:
            item.size = size[::-1]
            with pytest.raises(ConversionError, match=r'turned by its EXIF orientation .*--exif'):
                convert(Annotations([item]), tmp_path / 'out', Options(orientation=mode))


def test_formats(tmp_path):
    """A segmentation has one suffix; what data sets do not read becomes PNG, upright."""
    mixed = Annotations(
        [masked(tmp_path, 'a'), masked(tmp_path, 'a', name='b.webp', orientation=6)]
    )
    report = convert(mixed, tmp_path / 'out', Options(val=0, test=0))
    for name in 'ab':
        with Image.open(tmp_path / 'out' / 'images' / 'train' / f'{name}.png') as copy:
            mask = Image.open(tmp_path / 'out' / 'annotations' / 'train' / f'{name}.png')
            assert (copy.format, copy.size) == ('PNG', mask.size)
            assert 0x0112 not in copy.getexif()
            mask.close()
    assert any('several formats' in note for note in report.notes)
    wrong = draw(tmp_path / 'wrong.png', format='JPEG')  # the suffix lies
    cmyk = tmp_path / 'cmyk.webp'
    Image.open(wrong).convert('RGBA').save(cmyk)
    items = [Item(p, p.stem, p.stem, label='x') for p in (wrong, cmyk)]
    convert(Annotations(items), tmp_path / 'cls', Options(val=0, test=0))
    names = sorted(p.name for p in (tmp_path / 'cls' / 'train' / 'x').iterdir())
    assert names == ['cmyk.png', 'wrong.jpg']


def test_what_is_left_out(tmp_path):
    good, other = masked(tmp_path, 'a'), masked(tmp_path, 'a', name='small.jpg')
    other.size = (20, 15)
    missing = Item(tmp_path / 'none.jpg', 'none', 'x', layers=good.layers)
    broken = Item(tmp_path / 'broken.jpg', 'broken', 'x', layers=good.layers)
    broken.image.write_bytes(b'no image')
    far = Item(good.image, 'far', 'x', layers=[Region('a', rectangle(0, 0, 9, 4000))])
    report = convert(
        Annotations([good, other, missing, broken, far]), tmp_path / 'out', Options(val=0, test=0)
    )
    assert report.images == dict(train=1)
    reasons = [one.why for one in report.skipped]
    assert reasons[0] == 'it is annotated as 20 x 15 pixels, but has 40 x 30'
    assert reasons[1] == 'there is no such image'
    assert reasons[2].startswith('it cannot be opened as an image')
    assert 'no pixels of an image of 40 x 30' in reasons[3]
    record = json.loads((tmp_path / 'out' / 'conversion.json').read_text())
    assert record['complete'] and [one['why'] for one in record['skipped']] == reasons
    files = {str(p.relative_to(tmp_path / 'out')) for p in (tmp_path / 'out').rglob('*.*')}
    assert files == {*record['files'], 'conversion.json'}
    assert 'left out: 4' in summary(report, tmp_path / 'out')


def test_equal_names(tmp_path):
    items = [masked(tmp_path / folder, label) for folder, label in (('x', 'a'), ('y', 'b'))]
    report = convert(Annotations(items), tmp_path / 'out', Options(val=0, test=0))
    names = sorted(p.name for p in (tmp_path / 'out' / 'annotations' / 'train').iterdir())
    assert names == ['a.png', 'a_2.png']
    assert '1 images of equal names got a number behind theirs' in report.notes


def test_existing_files(tmp_path):
    found, out = labelled(tmp_path / 'photos'), tmp_path / 'out'
    convert(found, out)
    before = set(out.rglob('*.jpg'))
    with pytest.raises(WriteError, match=r'has 21 files, such as .* or add --overwrite'):
        convert(found, out)
    for item in found.items:
        item.label = 'one'
    convert(found, out, Options(overwrite=True, seed=1))
    after = set(out.rglob('*.jpg'))
    assert len(after) == 20 and not before & after
    assert sorted(p.name for p in (out / 'train').iterdir()) == ['one']  # no folder is left
    (out / 'mine.txt').touch()
    with pytest.raises(WriteError, match=r'1 files that no conversion wrote, such as .*mine\.txt'):
        convert(found, out, Options(overwrite=True))
    with pytest.raises(WriteError, match='that no conversion wrote'):
        convert(found, tmp_path / 'photos', Options(overwrite=True))
    assert len([*(tmp_path / 'photos').iterdir()]) == 20


def test_a_conversion_of_itself(tmp_path):
    out = tmp_path / 'out'
    convert(labelled(tmp_path / 'photos'), out)
    items = [Item(p, p.stem, p.stem, label='x') for p in sorted(out.rglob('*.jpg'))]
    with pytest.raises(WriteError, match='is read, and would be removed'):
        convert(Annotations(items), out, Options(overwrite=True))
    assert all(item.image.exists() for item in items)


def test_links(tmp_path):
    found = labelled(tmp_path / 'photos')
    convert(found, tmp_path / 'out', Options(link=True))
    links = [*(tmp_path / 'out').rglob('*.jpg')]
    assert len(links) == 20 and all(path.is_symlink() and path.exists() for path in links)
    convert(found, tmp_path / 'out', Options(overwrite=True))
    copies = [*(tmp_path / 'out').rglob('*.jpg')]
    assert len(copies) == 20 and not any(path.is_symlink() for path in copies)
    assert len([*(tmp_path / 'photos').iterdir()]) == 20


@pytest.mark.parametrize(
    'change, options, message',
    [
        ({}, dict(val=0.6, test=0.4), 'leave 0 for training'),
        ({}, dict(val=-0.1), 'shares of -0.1 for validation'),
        (dict(split='val'), {}, 'some images have a split, but table:1 has none'),
        (dict(label='a/b'), {}, "table:0: the class 'a/b' cannot be a folder"),
        (
            {},
            dict(group='()'),
            r"leave none for test, val: 3 splits need as many groups, --group '\(\)' makes 1$",
        ),
        ({}, dict(val=0.01), '^20 images leave none for val: choose a larger share, or 0$'),
        ({}, dict(task='segmentation'), 'no image is left\n.*it has no annotation'),
    ],
)
def test_wrong_settings(tmp_path, change, options, message):
    found = labelled(tmp_path / 'photos')
    vars(found.items[0]).update(change)
    with pytest.raises(ConversionError, match=message):
        convert(found, tmp_path / 'out', Options(**options))
    assert not (tmp_path / 'out').exists()


def test_task(tmp_path):
    item = masked(tmp_path, 'a')
    item.label = 'cat'
    with pytest.raises(ConversionError, match='classes of images and annotations of areas: choose'):
        convert(Annotations([item]), tmp_path / 'out')
    with pytest.raises(ConversionError, match='there is no annotation'):
        convert(Annotations([Item(item.image, 'a', 'a')]), tmp_path / 'out')
    options = Options(task='classification', val=0, test=0)
    assert convert(Annotations([item]), tmp_path / 'out', options).task == 'classification'


def test_groups_of_given_splits(tmp_path):
    found = labelled(tmp_path / 'photos', 4)
    for item, split in zip(found.items, ('train', 'train', 'val', 'train'), strict=True):
        item.split = split
    with pytest.raises(ConversionError, match="images of group '0' into two splits"):
        convert(found, tmp_path / 'out', Options(group='(0)'))
