"""Results: what they say, how they look, and what they write."""

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from toast_mm.apis import Classification, Results, Segmentation
from toast_mm.files import WriteError

IMAGE = np.full((20, 30, 3), (200, 100, 0), np.uint8)
CLASSES = ['$sky$', '<b>road</b>', 'tree']
PALETTE = [[0, 0, 255], [9, 9, 9], [0, 255, 0]]


def classification(path='photos/a.jpg'):
    scores = np.array([0.1, 0.7, 0.2], np.float32)
    return Classification(IMAGE, path, scores, CLASSES)


def segmentation(path='photos/a.jpg'):
    labels = np.zeros((20, 30), np.uint8)
    labels[5:] = 2
    return Segmentation(IMAGE, path, labels, CLASSES, PALETTE)


def test_a_classification():
    result = classification()
    assert (result.index, result.label) == (1, '<b>road</b>')
    assert result.score == pytest.approx(0.7)
    assert [name for name, _ in result.top()] == ['<b>road</b>', 'tree', '$sky$']
    assert result.top(1) == [('<b>road</b>', result.score)]
    for number in (0, -1):
        with pytest.raises(ValueError, match=rf'^top\(k={number}\): k must be at least 1$'):
            result.top(number)
    assert repr(result) == "Classification(a.jpg: '<b>road</b>' 70.0%)"
    drawn = result.overlay()
    assert drawn.shape == IMAGE.shape and (drawn != IMAGE).any()


def test_a_segmentation():
    result = segmentation(None)
    assert result.areas == {'tree': 0.75, '$sky$': 0.25}
    assert repr(result) == "Segmentation(image: 'tree' 75%, '$sky$' 25%)"
    half = result.overlay(0.5)
    np.testing.assert_array_equal(half[0, 0], [100, 50, 128])
    np.testing.assert_array_equal(half[-1, -1], [100, 178, 0])
    np.testing.assert_array_equal(result.overlay(0), IMAGE)


def test_a_mask_holds_the_labels(tmp_path):
    result = segmentation()
    result.save_mask(tmp_path / 'mask.png')
    mask = Image.open(tmp_path / 'mask.png')
    np.testing.assert_array_equal(np.asarray(mask), result.labels)
    assert mask.mode == 'P' and mask.convert('RGB').getpixel((0, 19)) == (0, 255, 0)
    many = [str(number) for number in range(300)]
    labels = np.full((2, 2), 299, np.uint16)
    deep = Segmentation(IMAGE[:2, :2], None, labels, many, PALETTE * 100)
    deep.save_mask(tmp_path / 'deep.png')
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'deep.png')), labels)


@pytest.mark.parametrize('make', [classification, segmentation])
def test_files(make, tmp_path):
    source = tmp_path / 'a.png'
    Image.fromarray(IMAGE).save(source)
    result = make(str(source))
    result.save(tmp_path / 'out.png')
    result.save(tmp_path / 'out.png')  # once more
    assert Image.open(tmp_path / 'out.png').size[0] == 400  # four inches
    assert Image.open(tmp_path / 'out.png').format == 'PNG'
    before = source.read_bytes()
    with pytest.raises(WriteError, match=r'a\.png would replace .*a\.png, which is read'):
        result.save(source)
    assert source.read_bytes() == before
    with pytest.raises(WriteError, match=r'cannot be written: .*a\.png is no folder'):
        result.save(source / 'x.png')


@pytest.mark.parametrize('make', [classification, segmentation])
def test_a_window(make, monkeypatch):
    shown = []
    monkeypatch.setattr(plt, 'show', lambda: shown.append(plt.gcf().axes[0].images[0].get_array()))
    plt.switch_backend('agg')
    make().show()
    expected = plt.imread(io.BytesIO(make()._repr_png_()))
    assert len(shown) == 1
    np.testing.assert_array_equal(shown[0], expected)
    assert not plt.get_fignums()


def test_names_are_text_and_no_mathematics():
    titled = Classification(IMAGE, None, np.array([0.9, 0.1, 0.0], np.float32), CLASSES)
    figure = titled.figure()
    assert figure.axes[0].get_title() == r'\$sky\$ 90.0%'
    figure = segmentation().figure()
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ['tree', r'\$sky\$']


def test_a_list(tmp_path):
    results = Results([classification(), segmentation('other/a.jpg'), segmentation('b.jpg')])
    paths = results.save(tmp_path / 'new' / 'folder')
    assert [path.name for path in paths] == ['0_a.png', '1_a.png', '2_b.png']
    assert sorted(path.name for path in Path(tmp_path / 'new' / 'folder').iterdir()) == [
        *('0_a.png', '1_a.png', '1_a_mask.png', '2_b.png', '2_b_mask.png')
    ]
    with pytest.raises(WriteError, match=r'0_a\.png is no folder'):
        results.save(paths[0])
    html = results._repr_html_()
    assert html.count('data:image/png;base64,') == 3
    assert '&lt;b&gt;road&lt;/b&gt;' in html and '<b>' not in html
    assert repr(results).splitlines()[1] == "  Classification(a.jpg: '<b>road</b>' 70.0%),"
    assert repr(Results()) == '[]'


def test_a_long_list():
    results = Results([classification()] * 100)
    assert len(repr(results).splitlines()) == 27 and 'and 76 more' in repr(results)
    assert results._repr_html_().count('<img') == 24 and 'and 76 more' in results._repr_html_()


def test_no_photograph_is_replaced_by_the_mask_of_another(tmp_path):
    photos = [str(tmp_path / name) for name in ('a.jpg', 'a_mask.png')]
    for photo in photos:
        Image.fromarray(IMAGE).save(photo)
    before = Path(photos[1]).read_bytes()
    both = [segmentation(photo) for photo in photos]
    for results in (both, both[::-1], [both[0], classification(photos[1])]):
        saved = Results(results).save(tmp_path)
        assert sorted(path.stem for path in saved) in (['0_a', '1_a_mask'], ['0_a_mask', '1_a'])
    assert Path(photos[1]).read_bytes() == before


def test_nothing_is_written_if_a_photograph_would_be_replaced(tmp_path):
    photos = [str(tmp_path / name) for name in ('first.jpg', 'second.png')]
    for photo in photos:
        Image.fromarray(IMAGE).save(photo)
    with pytest.raises(WriteError, match=r'second\.png would replace'):
        Results(map(segmentation, photos)).save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['first.jpg', 'second.png']


def test_suffixes(tmp_path):
    with pytest.raises(WriteError, match=r'out\.xyz must end in one of .*\.jpg, .*\.png, '):
        classification().save(tmp_path / 'out.xyz')
    with pytest.raises(WriteError, match=r'out must end in'):
        segmentation().save(tmp_path / 'out')
    with pytest.raises(WriteError, match=r'mask\.jpg must end in \.png'):
        segmentation().save_mask(tmp_path / 'mask.jpg')
    assert not [*tmp_path.iterdir()]
    classification().save(tmp_path / 'new' / 'out.JPG')
    with Image.open(tmp_path / 'new' / 'out.JPG') as picture:
        assert picture.format == 'JPEG'
