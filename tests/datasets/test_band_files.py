"""Loading images of any number of bands."""

import io
import re

import numpy as np
import pytest
import tifffile
from mmcv.transforms import Compose, Resize
from mmengine.registry import DefaultScope
from PIL import Image

from toast_mm.datasets import LoadBandsFromFile, ShowBands
from toast_mm.registry import TRANSFORMS

CONTIGUOUS = dict(photometric='minisblack', planarconfig='contig')
SEPARATE = dict(photometric='minisblack', planarconfig='separate')


def pixels(bands, dtype=np.uint16):
    values = np.random.default_rng(bands).uniform(0, 4000, (7, 9, bands))
    return values.astype(dtype)


def write(path, array):
    if path.suffix == '.npy':
        np.save(path, array)
    elif array.ndim == 2:
        tifffile.imwrite(path, array)
    else:
        last = array.shape[2] < array.shape[0]
        tifffile.imwrite(path, array, **(CONTIGUOUS if last else SEPARATE), compression='zlib')
    return str(path)


@pytest.mark.parametrize('suffix', ['.tif', '.TIFF', '.npy'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int16, np.float32, np.float64])
@pytest.mark.parametrize('bands', [2, 6])
def test_values(tmp_path, bands, dtype, suffix):
    array = pixels(bands, dtype)
    path = write(tmp_path / f'a{suffix}', array)
    results = LoadBandsFromFile(bands)(dict(img_path=path, label=3))
    assert results['img'].dtype == np.float32
    np.testing.assert_array_equal(results['img'], array.astype(np.float32))
    assert results['img_shape'] == results['ori_shape'] == (7, 9)
    assert results['label'] == 3


@pytest.mark.parametrize('suffix', ['.tif', '.npy'])
def test_the_layout_is_said(tmp_path, suffix):
    array = pixels(6)
    path = write(tmp_path / f'a{suffix}', array.transpose(2, 0, 1))
    np.testing.assert_array_equal(LoadBandsFromFile(6, layout='CHW').read(path), array)
    with pytest.raises(
        ValueError, match=r"a\S+ is an array of shape \(6, 7, 9\), .*: set layout='CHW'$"
    ):
        LoadBandsFromFile(6).read(path)
    path = write(tmp_path / f'b{suffix}', array)
    with pytest.raises(ValueError, match=r"\(7, 9, 6\), .* 6 bands with .*: set layout='HWC'$"):
        LoadBandsFromFile(6, layout='CHW').read(path)


@pytest.mark.parametrize('suffix', ['.tif', '.npy'])
@pytest.mark.parametrize('layout', ['HWC', 'CHW'])
def test_one_band_may_have_two_axes(tmp_path, layout, suffix):
    array = pixels(1)
    path = write(tmp_path / f'a{suffix}', array[..., 0])
    np.testing.assert_array_equal(LoadBandsFromFile(1, layout=layout).read(path), array)
    with pytest.raises(ValueError, match=r'shape \(7, 9\), which is no image of 2 bands'):
        LoadBandsFromFile(2).read(path)


def test_bands_are_chosen_and_ordered(tmp_path):
    array = pixels(6)
    path = write(tmp_path / 'a.tif', array)
    image = LoadBandsFromFile(6, bands=(4, 0, 4)).read(path)
    np.testing.assert_array_equal(image, np.stack([array[..., b] for b in (4, 0, 4)], -1))
    assert image.flags.c_contiguous  # torch takes no negative strides


def test_alpha_is_a_band(tmp_path):
    path = str(tmp_path / 'a.tif')
    Image.fromarray(pixels(4, np.uint8), 'RGBA').save(path)
    with pytest.raises(ValueError, match=r'a\.tif is an array of shape \(7, 9, 4\), .* of 3 bands'):
        LoadBandsFromFile(3).read(path)
    assert LoadBandsFromFile(4, bands=(0, 1, 2)).read(path).shape == (7, 9, 3)


def damaged(suffix):
    buffer = io.BytesIO()
    if suffix == '.npy':
        np.save(buffer, pixels(6))
    else:  # in seven strips
        tifffile.imwrite(buffer, pixels(6), **CONTIGUOUS, compression='zlib', rowsperstrip=1)
    content = buffer.getvalue()
    return content[: len(content) // 2]


@pytest.mark.parametrize('suffix', ['.tif', '.npy'])
@pytest.mark.parametrize('content', ['empty', 'text', 'cut'])
def test_damaged_files(tmp_path, suffix, content):
    path = tmp_path / f'broken{suffix}'
    path.write_bytes(dict(empty=b'', text=b'no image', cut=damaged(suffix))[content])
    with pytest.raises(ValueError, match=rf'{re.escape(str(path))} cannot be read as \{suffix}: '):
        LoadBandsFromFile(6).read(str(path))


def test_pickles_are_never_read(tmp_path, monkeypatch):
    monkeypatch.setenv('TOAST_MM_TRUST_FILES', '1')
    np.save(tmp_path / 'a.npy', np.array([dict()]), allow_pickle=True)
    with pytest.raises(ValueError, match=r'a\.npy cannot be read as \.npy: .*allow_pickle=False'):
        LoadBandsFromFile(6).read(str(tmp_path / 'a.npy'))
    np.savez(tmp_path / 'b.npz', pixels(6))
    (tmp_path / 'b.npz').rename(tmp_path / 'b.npy')
    with pytest.raises(ValueError, match=r'b\.npy cannot be read as \.npy'):
        LoadBandsFromFile(6).read(str(tmp_path / 'b.npy'))


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_missing_values(tmp_path, value):
    array = pixels(2, np.float32)
    array[3, 4, 1] = value
    path = write(tmp_path / 'a.tif', array)
    with pytest.raises(ValueError, match=r'a\.tif holds infinite or NaN values: replace what'):
        LoadBandsFromFile(2).read(path)
    LoadBandsFromFile(2, bands=[0]).read(path)


def test_other_files(tmp_path):
    with pytest.raises(ValueError, match=r'reads \.tif, \.tiff, \.npy, but the image is a\.png'):
        LoadBandsFromFile(6).read('a.png')
    with pytest.raises(FileNotFoundError, match=r'none\.tif'):
        LoadBandsFromFile(6).read(str(tmp_path / 'none.tif'))
    path = write(tmp_path / 'a.npy', pixels(2).astype(np.complex64))
    with pytest.raises(ValueError, match=r'a\.npy holds complex64 values'):
        LoadBandsFromFile(2).read(path)


def test_an_array_without_a_path():
    """mmpretrain's inferencer gives it."""
    array = pixels(6)
    image = LoadBandsFromFile(6, bands=[1, 0], layout='CHW')(dict(img=array))['img']
    np.testing.assert_array_equal(image, array[..., [1, 0]])
    with pytest.raises(ValueError, match=r'the array is an array of shape \(7, 9, 3\), .* 6 bands'):
        LoadBandsFromFile(6)(dict(img=array[..., :3]))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(num_bands=0), 'num_bands=0 must be at least 1'),
        (dict(num_bands=6, bands=[6]), r'bands=\[6\] must be some of the bands of a file, 0\.\.5'),
        (dict(num_bands=6, bands=[]), r'bands=\[\] must be some'),
        (dict(num_bands=6, layout='WHC'), "layout='WHC' must be one of"),
        (dict(num_bands=6, shown=(0, 1)), r'shown=\(0, 1\) must be three of the loaded bands'),
        (dict(num_bands=6, bands=[5, 4], shown=(0, 1, 2)), r'three of the loaded bands, 0\.\.1'),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LoadBandsFromFile(**arguments)


def test_the_mask_of_another_size(tmp_path):
    path = write(tmp_path / 'a.tif', pixels(2))
    results = dict(img_path=path, seg_map_path='m.png', gt_seg_map=np.zeros((9, 7), np.uint8))
    with pytest.raises(
        ValueError, match=r'm\.png is a mask of 7 x 9 pixels, but its image .*a\.tif'
    ):
        LoadBandsFromFile(2)(results)


def test_picture():
    """Each shown band is stretched alone; a constant one is black."""
    ramp = np.arange(101, dtype=np.float32)
    image = np.stack([ramp, 1000 * ramp, np.full(101, 7, np.float32)], -1)[None]
    picture = LoadBandsFromFile(3, shown=(1, 2, 0)).to_rgb(image)
    assert picture.dtype == np.uint8 and picture.shape == (1, 101, 3)
    expected = np.clip((ramp - 2) / 96, 0, 1) * 255
    np.testing.assert_allclose(picture[0, :, 0], expected, atol=0.51)
    np.testing.assert_array_equal(picture[0, :, 0], picture[0, :, 2])
    assert not picture[..., 1].any()
    assert LoadBandsFromFile(1).shown == [0, 0, 0]
    assert LoadBandsFromFile(2).shown == [0, 1, 1]
    assert LoadBandsFromFile(6, bands=(3, 4, 5, 0)).shown == [0, 1, 2]


@pytest.mark.parametrize('bands', [1, 6])
def test_what_browsing_shows(bands):
    image = pixels(bands)
    loader = LoadBandsFromFile(bands, shown=(0, bands - 1, 0))
    results = ShowBands()(loader(dict(img=image)))
    expected = loader.to_rgb(image.astype(np.float32))
    np.testing.assert_array_equal(results['img'], expected[..., ::-1])  # BGR
    results = ShowBands()(Compose([loader, Resize((9, 7))])(dict(img=image)))
    np.testing.assert_array_equal(results['img'], expected[..., ::-1])
    with pytest.raises(ValueError, match=r'no toast_mm\.LoadBandsFromFile is before it'):
        ShowBands()(dict(img=image))


GEOMETRIC = [
    ('mmpretrain', dict(type='RandomResizedCrop', scale=8, backend='cv2')),
    ('mmpretrain', dict(type='ResizeEdge', scale=11)),
    ('mmpretrain', dict(type='CenterCrop', crop_size=5)),
    ('mmpretrain', dict(type='RandomFlip', prob=1.0)),
    ('mmpretrain', dict(type='RandomCrop', crop_size=5, padding=2)),
    ('mmpretrain', dict(type='Rotate', angle=30.0, prob=1.0, pad_val=0)),
    (
        'mmpretrain',
        dict(type='Shear', magnitude=0.3, pad_val=0, interpolation='bilinear'),
    ),
    ('mmseg', dict(type='RandomResize', scale=(20, 16), ratio_range=(0.5, 2.0), keep_ratio=True)),
    ('mmseg', dict(type='RandomCrop', crop_size=(5, 5))),
    ('mmseg', dict(type='RandomRotate', prob=1.0, degree=20)),
    ('mmseg', dict(type='ResizeToMultiple', size_divisor=8)),
]


@pytest.mark.parametrize('bands', [1, 2, 6, 16])
@pytest.mark.parametrize(('scope', 'transform'), GEOMETRIC)
def test_geometric_transforms_take_any_number_of_bands(scope, transform, bands):
    """All bands change alike: equal bands remain equal."""
    np.random.seed(0)
    band = pixels(1).astype(np.float32)
    results = dict(img=np.repeat(band, bands, -1), gt_seg_map=np.zeros((7, 9), np.uint8))
    results = LoadBandsFromFile(bands)(results) | dict(seg_fields=['gt_seg_map'])
    if scope == 'mmpretrain':
        results.pop('gt_seg_map')
    with DefaultScope.overwrite_default_scope(scope):
        image = TRANSFORMS.build(transform)(results)['img']
    image = image[..., None] if image.ndim == 2 else image  # OpenCV drops the axis of one band
    assert image.shape[2] == bands
    np.testing.assert_allclose(image, np.repeat(image[..., :1], bands, -1), rtol=1e-5)


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmseg'])
@pytest.mark.parametrize('bands', [1, 6])
def test_packed(tmp_path, scope, bands):
    path = write(tmp_path / 'a.npy', pixels(bands))
    pack = dict(mmpretrain='PackInputs', mmseg='PackSegInputs')[scope]
    pipeline = [
        dict(type='toast_mm.LoadBandsFromFile', num_bands=bands),
        dict(type='Resize', scale=(12, 10)),
        dict(type=pack),
    ]
    with DefaultScope.overwrite_default_scope(scope):
        packed = Compose(pipeline)(dict(img_path=path))
    assert packed['inputs'].shape == (bands, 10, 12)
    assert packed['data_samples'].img_path == path
