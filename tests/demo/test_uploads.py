"""Pictures from strangers, and limits."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from toast_mm.demo import Limits, RequestLimit, UploadError, read_upload

LIMITS = Limits(megabytes=0.1, megapixels=0.01)  # 100 x 100 pixels


def png(width: int, height: int) -> bytes:
    """A PNG file whose head says a size that its pixels do not have."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack('>I', len(content))
            + kind
            + content
            + struct.pack('>I', zlib.crc32(kind + content))
        )

    head = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    return (
        b'\x89PNG\r\n\x1a\n' + head + chunk(b'IDAT', zlib.compress(bytes(9))) + chunk(b'IEND', b'')
    )


def refused(path, limits=LIMITS) -> str:
    with pytest.raises(UploadError) as error:
        read_upload(str(path), 'holiday.png', limits)
    return str(error.value)


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'webp', 'bmp', 'gif', 'tif'])
def test_pictures_are_read(suffix, tmp_path):
    pixels = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    Image.fromarray(pixels).save(tmp_path / f'a.{suffix}')
    picture = read_upload(str(tmp_path / f'a.{suffix}'), 'a', LIMITS)
    assert np.abs(np.int64(picture.convert('RGB')) - pixels).max() <= 3


@pytest.mark.parametrize('mode', ['L', 'LA', 'RGBA', 'P', 'I;16', '1'])
def test_other_modes_stay_as_they_are(mode, tmp_path):
    picture = Image.new(mode, (30, 20))
    picture.save(tmp_path / 'a.png')
    read = read_upload(str(tmp_path / 'a.png'), 'a', LIMITS)
    assert (read.mode, read.size) == (mode, (30, 20))


def test_a_picture_of_exactly_the_largest_size(tmp_path):
    Image.new('RGB', (100, 100)).save(tmp_path / 'a.png')
    assert read_upload(str(tmp_path / 'a.png'), 'a', LIMITS).size == (100, 100)
    Image.new('RGB', (101, 100)).save(tmp_path / 'a.png')
    assert refused(tmp_path / 'a.png') == (
        'holiday.png has 101 x 100 pixels: at most 0.01 million are allowed'
    )


@pytest.mark.parametrize('side', [200, 60_000])
def test_a_bomb_is_refused_before_it_is_decoded(side, tmp_path):
    (tmp_path / 'a.png').write_bytes(png(side, side))
    assert 'at most 0.01 million are allowed' in refused(tmp_path / 'a.png')


def test_a_large_file_is_refused(tmp_path):
    (tmp_path / 'a.png').write_bytes(png(10, 10) + bytes(100_000))
    assert refused(tmp_path / 'a.png') == ('holiday.png has 0.1 megabytes: at most 0.1 are allowed')


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'a text',
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n',
        png(10, 10),  # too few pixels
    ],
)
def test_what_is_no_picture_is_refused(content, tmp_path):
    (tmp_path / 'a.png').write_bytes(content)
    assert refused(tmp_path / 'a.png').startswith('holiday.png is no picture that can be read')


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'tif', 'webp'])
def test_a_cut_picture_is_refused(suffix, tmp_path):
    path = tmp_path / f'a.{suffix}'
    pixels = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[:-4000])
    assert 'is damaged' in refused(path)


def test_a_checksum_that_differs_is_damage(tmp_path):
    """PIL decodes such a file."""
    path = tmp_path / 'a.png'
    Image.new('RGB', (30, 20), (9, 8, 7)).save(path)
    content = bytearray(path.read_bytes())
    content[content.index(b'IEND') - 5] ^= 1  # of the pixels, which come before
    path.write_bytes(content)
    with Image.open(path) as picture:
        picture.load()
    assert 'is damaged' in refused(path)


def test_requests_of_a_minute():
    now = [0.0]
    limit = RequestLimit(2, clock=lambda: now[0])
    assert [limit.seconds_to_wait('a') for _ in range(3)] == [0, 0, 60]
    assert limit.seconds_to_wait('b') == 0
    now[0] = 59.5
    assert limit.seconds_to_wait('a') == 0.5
    now[0] = 60.0
    assert [limit.seconds_to_wait('a') for _ in range(3)] == [0, 0, 60]
    now[0] = 200.0
    limit.seconds_to_wait('c')
    assert set(limit._times) == {'c'}  # no memory of visitors who have left


@pytest.mark.parametrize('name', ['megabytes', 'megapixels', 'per_minute', 'waiting'])
def test_limits_are_above_0(name):
    with pytest.raises(ValueError, match=f'{name}=0 must be above 0'):
        Limits(**{name: 0})
