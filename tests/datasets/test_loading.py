"""Masks that do not belong to their image, and images of more than 8 bits."""

import re

import cv2
import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from PIL import Image

from toast_mm.datasets import LoadAnnotations, LoadImageFromFile

RNG = np.random.default_rng(0)
# Places where pipelines load masks: before resizing, after it, in TTA, before images.
TRAIN = [dict(type='toast_mm.LoadImageFromFile'), dict(type='toast_mm.LoadAnnotations')]
TEST = [
    dict(type='LoadImageFromFile', _scope_='toast_mm'),
    dict(type='Resize', scale=(32, 16), keep_ratio=True),
    dict(type='toast_mm.LoadAnnotations'),
]
STOCK_LOADER = [dict(type='mmcv.LoadImageFromFile'), *TEST[1:]]
VIEWS = [[dict(type='RandomFlip', prob=1.0)], [dict(type='toast_mm.LoadAnnotations')]]
TTA = [TRAIN[0], dict(type='TestTimeAug', transforms=VIEWS)]
PIPELINES = dict(train=TRAIN, test=TEST, stock=STOCK_LOADER, tta=TTA, mask_first=TRAIN[::-1])


@pytest.fixture(params=PIPELINES)
def load(request, tmp_path):
    """Load ``image.jpg`` and ``mask.png`` as a data set of mmseg does."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        pipeline = Compose(PIPELINES[request.param])

    def run(**info) -> dict:
        files = dict(img_path=f'{tmp_path}/image.jpg', seg_map_path=f'{tmp_path}/mask.png')
        return pipeline(dict(files, seg_fields=[], label_map=None, reduce_zero_label=False) | info)

    return run


def save_image(path, width: int = 12, height: int = 8, orientation: int | None = None) -> None:
    image = Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))
    exif = image.getexif()
    if orientation:
        exif[0x0112] = orientation
    image.save(path / 'image.jpg', exif=exif)


def save_mask(path, width: int = 12, height: int = 8) -> np.ndarray:
    mask = RNG.integers(0, 3, (height, width), dtype=np.uint8)
    Image.fromarray(mask).save(path / 'mask.png')
    return mask


class TestSizes:
    def test_equal(self, load, tmp_path):
        save_image(tmp_path)
        mask = save_mask(tmp_path)
        loaded = load()['gt_seg_map']
        loaded = loaded[0] if isinstance(loaded, list) else loaded
        assert np.array_equal(loaded, mask)

    @pytest.mark.parametrize('size', [(24, 16), (6, 4), (8, 12), (12, 9)])
    def test_other_size(self, load, tmp_path, size):
        save_image(tmp_path)
        save_mask(tmp_path, *size)
        with pytest.raises(ValueError) as info:
            load()
        assert str(info.value) == (
            f'{tmp_path}/mask.png is a mask of {size[0]} x {size[1]} pixels, but its image '
            f'{tmp_path}/image.jpg has 12 x 8'
        )

    def test_turned_by_exif(self, load, tmp_path):
        """The file has 12 x 8 pixels, which show an image of 8 x 12."""
        save_image(tmp_path, orientation=6)
        save_mask(tmp_path)
        sentence = r'12 x 8 pixels, but its image .*image\.jpg has 8 x 12\. The image is '
        with pytest.raises(ValueError, match=f'{sentence}rotated .* by its EXIF orientation 6'):
            load()
        save_mask(tmp_path, 8, 12)
        load()

    def test_turned_by_exif_but_not_when_read(self, tmp_path):
        save_image(tmp_path, orientation=6)
        mask = save_mask(tmp_path)
        pipeline = Compose([{**TRAIN[0], 'color_type': 'color_ignore_orientation'}, TRAIN[1]])
        files = dict(img_path=f'{tmp_path}/image.jpg', seg_map_path=f'{tmp_path}/mask.png')
        assert np.array_equal(pipeline(files)['gt_seg_map'], mask)


def load_mask(path, **settings) -> np.ndarray:
    info = dict(seg_map_path=str(path)) | settings
    return LoadAnnotations()(info)['gt_seg_map']


class TestLabels:
    @pytest.mark.parametrize('mode, channels', [('RGB', 3), ('RGBA', 4), ('LA', 2)])
    def test_colours(self, tmp_path, mode, channels):
        Image.new(mode, (4, 4)).save(tmp_path / 'mask.png')
        with pytest.raises(ValueError) as info:
            load_mask(tmp_path / 'mask.png')
        assert str(info.value) == (
            f'{tmp_path}/mask.png has {channels} channels, but a mask has one channel of '
            'class numbers: convert its colours into these'
        )

    def test_sixteen_bits(self, tmp_path):
        """Labels beyond 255 are no classes 0, 1, ...: mmseg keeps their last 8 bits."""
        labels = np.array([[0, 7, 255]], dtype=np.uint16)
        Image.fromarray(labels).save(tmp_path / 'mask.png')
        assert load_mask(tmp_path / 'mask.png').tolist() == labels.tolist()
        Image.fromarray(labels + 1).save(tmp_path / 'mask.png')
        sentence = r'mask\.png has the label 256; labels are whole numbers from 0 to 255$'
        with pytest.raises(ValueError, match=sentence):
            load_mask(tmp_path / 'mask.png')

    def test_fractions(self, tmp_path):
        Image.fromarray(np.array([[0, 0.5]], dtype=np.float32)).save(tmp_path / 'mask.tif')
        with pytest.raises(ValueError, match=r'mask\.tif has the label 0\.5; labels are whole'):
            load_mask(tmp_path / 'mask.tif')

    def test_black_and_white(self, tmp_path):
        Image.fromarray(np.array([[True, False]])).save(tmp_path / 'mask.png')
        assert load_mask(tmp_path / 'mask.png').tolist() == [[1, 0]]

    def test_custom_classes_behind_reduced_labels(self, tmp_path):
        """First 0..254 become 255, 0, .., 253; then the map renames labels."""
        Image.fromarray(np.array([[0, 1, 2, 3, 254, 255]], dtype=np.uint8)).save(tmp_path / 'm.png')
        settings = dict(reduce_zero_label=True, label_map={0: 1, 1: 0, 2: 255})
        loaded = load_mask(tmp_path / 'm.png', **settings)
        assert loaded.tolist() == [[255, 1, 0, 255, 253, 255]] and loaded.dtype == np.uint8

    @pytest.mark.filterwarnings('ignore:`reduce_zero_label` will be deprecated')
    def test_settings_that_disagree(self, tmp_path):
        """The error does not blame the file."""
        save_mask(tmp_path)
        info = dict(seg_map_path=f'{tmp_path}/mask.png', reduce_zero_label=False)
        with pytest.raises(ValueError, match=r'^LoadAnnotations has reduce_zero_label=True, but'):
            LoadAnnotations(reduce_zero_label=True)(info)


@pytest.fixture
def warnings_of(monkeypatch):
    lines = []
    monkeypatch.setattr('toast_mm.datasets.loading.print_log', lambda line, **_: lines.append(line))
    return lines


@pytest.mark.parametrize('suffix', ['png', 'tiff'])
class TestBitDepth:
    def save(self, path, suffix: str, values: list[int]) -> tuple[str, np.ndarray]:
        """Save a gray image; return what mmcv reads from an 8 bit version of it: BGR."""
        values = np.array([values], dtype=np.uint16)
        cv2.imwrite(str(path / f'image.{suffix}'), values)
        return str(path / f'image.{suffix}'), np.repeat(values[..., None], 3, axis=2)

    @pytest.mark.parametrize(
        'bits, values', [(12, [0, 16, 1600, 4095]), (10, [4, 400, 1023]), (8, [0, 200, 255])]
    )
    def test_the_bits_that_are_used(self, warnings_of, tmp_path, suffix, bits, values):
        path, image = self.save(tmp_path, suffix, values)
        transform = LoadImageFromFile()
        for _ in range(2):
            loaded = transform(dict(img_path=path))['img']
            assert loaded.dtype == np.uint8
            assert np.array_equal(loaded, image // 2 ** (bits - 8))
        (line,) = warnings_of
        assert f'{path} has 16 bits per channel and uses {bits} of them' in line

    def test_all_bits(self, warnings_of, tmp_path, suffix):
        path, image = self.save(tmp_path, suffix, [0, 256, 65535])
        assert np.array_equal(LoadImageFromFile()(dict(img_path=path))['img'], image // 256)
        assert not warnings_of

    def test_bits_that_are_said(self, warnings_of, tmp_path, suffix):
        """A dark image stays dark."""
        path, image = self.save(tmp_path, suffix, [0, 16, 160])
        loaded = LoadImageFromFile(bit_depth=12)(dict(img_path=path))['img']
        assert np.array_equal(loaded, image // 16)
        floats = LoadImageFromFile(to_float32=True, bit_depth=12)(dict(img_path=path))['img']
        assert floats.dtype == np.float32 and np.array_equal(floats, image / 16)
        path, _ = self.save(tmp_path, suffix, [0, 4096])
        with pytest.raises(ValueError, match=rf'{suffix} has the value 4096, which needs more'):
            LoadImageFromFile(bit_depth=12)(dict(img_path=path))
        assert not warnings_of


@pytest.mark.parametrize('channels', [1, 3])
def test_pillow_would_cut_them(tmp_path, channels):
    cv2.imwrite(str(tmp_path / 'image.png'), np.full((4, 5, channels), 300, np.uint16))
    Image.new('I;16', (5, 4), 300).save(tmp_path / 'image.tif')
    for name in ('image.png', *['image.tif'] * (channels == 1)):
        with pytest.raises(ValueError, match=rf"{name} has more than 8 bits .*backend='cv2'$"):
            LoadImageFromFile(imdecode_backend='pillow')(dict(img_path=str(tmp_path / name)))
    Image.new('RGB', (5, 4), (9, 8, 7)).save(tmp_path / 'plain.png')
    plain = dict(img_path=str(tmp_path / 'plain.png'))
    loaded = LoadImageFromFile(imdecode_backend='pillow')(plain)['img']
    assert loaded[0, 0].tolist() == [7, 8, 9]


def test_floating_point(tmp_path):
    cv2.imwrite(str(tmp_path / 'image.tiff'), np.random.rand(4, 4, 3).astype(np.float32))
    with pytest.raises(ValueError, match=r'image\.tiff holds values of type float32'):
        LoadImageFromFile()(dict(img_path=str(tmp_path / 'image.tiff')))


@pytest.mark.parametrize('bits', [7, 17])
def test_impossible_bits(bits):
    with pytest.raises(ValueError, match=f'bit_depth={bits} must be from 8 to 16'):
        LoadImageFromFile(bit_depth=bits)


def test_values_of_8_bits_stay(tmp_path):
    for mode in ('RGB', 'L', 'P', 'RGBA', '1'):
        image = Image.fromarray(RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)).convert(mode)
        image.save(tmp_path / f'{mode}.png')
        path = str(tmp_path / f'{mode}.png')
        assert np.array_equal(LoadImageFromFile()(dict(img_path=path))['img'], cv2.imread(path))


def test_error_of_a_missing_mask(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / 'none.png'))):
        load_mask(tmp_path / 'none.png')
