"""Bad and unusual images, for the inspection of data, a training and a predictor."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import random
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bad_world import World, check_equal, samples
from damage import LOST
from judging import Case, WrongResultError
from numpy.typing import NDArray
from PIL import Image, ImageOps
from small_jobs import write_config

from toast_mm.apis import Predictor, load
from toast_mm.engine.config import read_config
from toast_mm.inspection import inspect
from toast_mm.inspection.sample import load as load_sample

PLACE = 'train/class_0/00'
LOSSY = 4  # of 255, by which decoders of JPEG and of printing colours may differ
# Findings after which a training would not read the image.
BROKEN = ('missing', 'empty file', 'truncated', 'unreadable', 'gigantic')


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def colours(rng: random.Random) -> NDArray[np.uint8]:
    return np.frombuffer(rng.randbytes(16 * 16 * 3), np.uint8).reshape(16, 16, 3)


def smooth(rng: random.Random) -> Image.Image:
    """A picture that JPEG hardly changes."""
    small = np.frombuffer(rng.randbytes(2 * 2 * 3), np.uint8).reshape(2, 2, 3)
    return Image.fromarray(small).resize((16, 16), Image.Resampling.BILINEAR)


def jpeg(rng: random.Random, image: Image.Image | None = None, **options: object) -> bytes:
    return saved(image or smooth(rng), 'JPEG', quality=98, subsampling=0, **options)


def turned(rng: random.Random) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = rng.randrange(2, 9)
    return jpeg(rng, exif=exif)


def deep(rng: random.Random) -> bytes:
    bits = rng.choice([8, 10, 12, 14, 16])
    values = np.frombuffer(rng.randbytes(16 * 16 * 2), np.uint16).reshape(16, 16)
    values = values >> (16 - bits)
    values[0, 0] = 2**bits - 1
    return saved(Image.fromarray(values.astype(np.uint16)), 'PNG')


def animated(rng: random.Random) -> bytes:
    frames = [Image.fromarray(colours(rng)) for _ in range(3)]
    form = rng.choice(['GIF', 'PNG', 'WEBP'])
    options = dict(lossless=True) if form == 'WEBP' else {}
    return saved(frames[0], form, save_all=True, append_images=frames[1:], **options)


def palette(rng: random.Random) -> bytes:
    image = Image.fromarray(colours(rng)).quantize(rng.choice([2, 13, 256]))
    return saved(image, rng.choice(['PNG', 'GIF', 'BMP']))


def with_alpha(rng: random.Random) -> bytes:
    image = Image.fromarray(colours(rng)).convert(rng.choice(['RGBA', 'LA']))
    image.putalpha(Image.frombytes('L', (16, 16), rng.randbytes(256)))
    return saved(image, 'PNG')


def print_colours(rng: random.Random) -> bytes:
    return jpeg(rng, smooth(rng).convert('CMYK'))


def one_bit(rng: random.Random) -> bytes:
    return saved(Image.fromarray(colours(rng)).convert('1'), rng.choice(['PNG', 'BMP', 'TIFF']))


def other_format(rng: random.Random) -> bytes:
    form = rng.choice(['BMP', 'TIFF', 'WEBP', 'PPM'])
    options = dict(lossless=True) if form == 'WEBP' else {}
    return saved(Image.fromarray(colours(rng)), form, **options)


# Valid images, all under the name of a PNG: what they hold decides.
UNUSUAL: dict[str, Callable[[random.Random], bytes]] = {
    'EXIF orientation': turned,
    'more than 8 bits': deep,
    'animation': animated,
    'palette': palette,
    'alpha': with_alpha,
    'CMYK': print_colours,
    '1 bit': one_bit,
    'wrong suffix': other_format,
    'grey': lambda rng: saved(Image.fromarray(colours(rng)).convert('L'), 'PNG'),
}


def gigantic(content: bytes, rng: random.Random) -> bytes:
    """A PNG whose header states more pixels than any memory holds."""
    side = rng.randrange(100_000, 2**31)
    header = struct.pack('>II', side, side) + content[24:29]
    return b''.join(
        [content[:16], header, struct.pack('>I', zlib.crc32(b'IHDR' + header)), content[33:]]
    )


CONTENTS = LOST | {'gigantic header': gigantic}
PLACES = ('a folder', 'a dead link', 'cut JPEG')
KINDS = (*CONTENTS, *UNUSUAL, *PLACES)


def pillow_pixels(path: Path) -> NDArray[np.uint8] | None:
    """RGB as Pillow reads it, upright, with the used bits scaled to 8; None if it cannot."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with Image.open(path) as image:
                image.load()
                upright = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    if upright.mode.startswith('I'):
        values = np.asarray(upright)
        bits = next(bits for bits in (8, 10, 12, 14, 16) if values.max() < 2**bits)
        grey = (values >> (bits - 8)).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(upright.convert('RGB'))


class Images:
    """Images: truncated, of other formats and depths, and no images at all."""

    def __init__(self, world: World) -> None:
        self.world = world

    def case(self, turn: int) -> Case:
        rounds, kind = divmod(turn, len(KINDS))
        damage = KINDS[kind]
        consumer = (self.inspected, self.trained, self.predicted)[(kind + rounds) % 3]
        folder = self.world.copy(self.world.images)
        path = self.damaged(folder / f'{PLACE}.png', damage)
        run = functools.partial(consumer, folder, path)
        return Case('images', damage, (path.name,), run, damage in UNUSUAL)

    def damaged(self, path: Path, damage: str) -> Path:
        rng = self.world.random
        content = path.read_bytes()
        path.unlink()
        if damage in UNUSUAL:
            path.write_bytes(UNUSUAL[damage](rng))
        elif damage in CONTENTS:
            path.write_bytes(CONTENTS[damage](content, rng))
        elif damage == 'a folder':
            path.mkdir()
        elif damage == 'a dead link':
            path.symlink_to(path.with_name('gone.png'))
        else:
            path = path.with_suffix('.jpg')
            whole = jpeg(rng)
            path.write_bytes(whole[: rng.randrange(200, len(whole) - 2)])
        return path

    def inspected(self, folder: Path, path: Path) -> str | None:
        config = write_config('short', folder, folder.parent)
        report = inspect(read_config(str(config)), jobs=0)
        notes = [f'{f.file}: {f.kind}: {f.text}' for f in report.findings if f.kind in BROKEN]
        if notes:
            return notes[0]
        sample = next((s for s in report.splits['train'].samples if s.image == str(path)), None)
        pixels = pillow_pixels(path)
        if sample is None:
            passed = [f.text for f in report.findings if f.kind == 'passed over']
            if not passed and not path.is_dir():  # a folder is no image
                raise WrongResultError('the inspection says nothing about it')
            return passed[0] if passed else None
        if pixels is None:
            raise WrongResultError('inspected as a good image, but Pillow cannot read it')
        digest = hashlib.blake2b(
            f'{pixels.shape} uint8'.encode() + pixels[..., ::-1].tobytes(), digest_size=16
        ).digest()
        if sample.size != (16, 16) or (sample.digest != digest and not lossy(path)):
            raise WrongResultError('inspected with other pixels than Pillow reads')
        return None

    def trained(self, folder: Path, path: Path) -> None:
        config = write_config('short', folder, folder.parent)
        weights = self.world.train(config)
        pixels = pillow_pixels(path)
        data = samples(config)
        place = next((n for n, info in enumerate(infos(data)) if info == str(path)), None)
        if place is None:
            if path.is_file():
                raise WrongResultError('trained without the image')
            clean = self.world.copy(self.world.images)
            (clean / f'{PLACE}.png').unlink()
        elif pixels is None:
            raise WrongResultError('trained on an image that Pillow cannot read')
        else:
            seen = load_sample(data, place)['img'][..., ::-1]
            compare(seen, pixels, LOSSY if lossy(path) else 0)
            clean = self.world.copy(self.world.images)
            Image.fromarray(seen).save(clean / f'{PLACE}.png')
        same = write_config('short', clean, clean.parent)
        check_equal(weights, self.world.train(same), 'training')

    @functools.cached_property
    def predictor(self) -> Predictor:
        trained = self.world.trained
        return load(trained / 'short.py', trained / 'trained/epoch_1.pth', device='cpu')

    def predicted(self, folder: Path, path: Path) -> None:
        (found,) = self.predictor.predict(path, progress=False)
        pixels = pillow_pixels(path)
        if pixels is None:
            raise WrongResultError('predicted from an image that Pillow cannot read')
        compare(found.image, pixels, LOSSY if lossy(path) else 0)
        (expected,) = self.predictor.predict(np.ascontiguousarray(found.image), progress=False)
        if not np.array_equal(found.scores, expected.scores):
            raise WrongResultError('predicted something else than from the pixels of the image')


def infos(dataset: object) -> list[str]:
    return [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]


def lossy(path: Path) -> bool:
    if os.path.isdir(path):
        return False
    return path.read_bytes()[:2] == b'\xff\xd8'


def compare(found: NDArray, expected: NDArray, tolerance: int) -> None:
    if found.shape != expected.shape:
        raise WrongResultError(f'loaded as {found.shape}, but Pillow reads {expected.shape}')
    difference = int(np.abs(found.astype(int) - expected).max())
    if difference > tolerance:
        raise WrongResultError(f'its pixels differ from those of Pillow by up to {difference}')
