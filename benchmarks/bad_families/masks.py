"""Bad and unusual masks, for the inspection of data and a training of a segmentor."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bad_world import World, check_equal, samples
from damage import LOST
from judging import Case, WrongResultError
from numpy.typing import NDArray
from PIL import Image
from small_jobs import write_config

from toast_mm.engine.config import read_config
from toast_mm.inspection import inspect
from toast_mm.inspection.sample import load as load_sample

from .images import infos, saved

Mask = NDArray[np.uint8]
CLASSES = 3
BROKEN = (
    *('missing', 'empty file', 'truncated', 'unreadable', 'mask size', 'mask channels'),
    *('foreign labels', 'ignored mask', 'lossy mask'),
)


def png(image: Image.Image) -> bytes:
    return saved(image, 'PNG')


def other_size(mask: Mask, rng: random.Random) -> bytes:
    height, width = rng.choice([(8, 16), (16, 8), (17, 16), (32, 32), (1, 1), (16, 15)])
    return png(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def foreign(mask: Mask, rng: random.Random) -> bytes:
    mask = mask.copy()
    mask[rng.randrange(16), rng.randrange(16)] = rng.randrange(CLASSES, 255)
    return png(Image.fromarray(mask))


def in_colour(mask: Mask, rng: random.Random) -> bytes:
    image = Image.fromarray(mask * 80).convert(rng.choice(['RGB', 'RGBA', 'LA']))
    return png(image)


def beyond_a_byte(mask: Mask, rng: random.Random) -> bytes:
    wide = mask.astype(np.uint16)
    wide[rng.randrange(16), rng.randrange(16)] = rng.randrange(256, 2**16)
    return png(Image.fromarray(wide))


def fractions(mask: Mask, rng: random.Random) -> bytes:
    return saved(Image.fromarray(mask.astype(np.float32) + rng.choice([0.5, -1.0])), 'TIFF')


def scaled(mask: Mask, rng: random.Random) -> bytes:
    """Labels spread over 0..255, as people save masks to look at them."""
    return png(Image.fromarray(mask * 127))


def compressed(mask: Mask, rng: random.Random) -> bytes:
    return saved(Image.fromarray(mask * 100), 'JPEG', quality=rng.randrange(20, 60))


WRONG: dict[str, Callable[[Mask, random.Random], bytes]] = {
    'another size': other_size,
    'foreign labels': foreign,
    'several channels': in_colour,
    'labels beyond 255': beyond_a_byte,
    'fractions or negative': fractions,
    'labels scaled to see them': scaled,
    'JPEG': compressed,
}


def paletted(mask: Mask, rng: random.Random) -> bytes:
    image = Image.fromarray(mask)
    image.putpalette(rng.randbytes(768))
    return png(image)


def wide(mask: Mask, rng: random.Random) -> bytes:
    return png(Image.fromarray(mask.astype(np.uint16)))


def two_labels(mask: Mask, rng: random.Random) -> bytes:
    """Labels 0 and 1 in single bits."""
    image = Image.fromarray((mask > 0).astype(np.uint8))
    image.putpalette([0, 0, 0, 255, 255, 255])
    return saved(image, 'PNG', bits=1)


def all_ignored(mask: Mask, rng: random.Random) -> bytes:
    return png(Image.fromarray(np.full_like(mask, 255)))


def as_whole_numbers(mask: Mask, rng: random.Random) -> bytes:
    """Another format under the name of a PNG."""
    form = rng.choice(['BMP', 'TIFF', 'GIF'])
    return saved(Image.fromarray(mask), form)


UNUSUAL: dict[str, Callable[[Mask, random.Random], bytes]] = {
    'palette': paletted,
    '16 bits': wide,
    'palette of 1 bit': two_labels,
    'all ignored': all_ignored,
    'wrong suffix': as_whole_numbers,
}
PLACES = ('missing', 'a folder', 'a dead link', 'renamed')
KINDS = (*LOST, *WRONG, *UNUSUAL, *PLACES)


class Masks:
    """Masks: other sizes, labels and channels, damaged and missing ones."""

    def __init__(self, world: World) -> None:
        self.world = world

    def case(self, turn: int) -> Case:
        rounds, kind = divmod(turn, len(KINDS))
        damage = KINDS[kind]
        consumer = (self.trained, self.inspected)[(kind + rounds) % 2]
        folder = self.world.copy(self.world.masks)
        path = folder / f'masks/train/{self.world.random.randrange(8):02}.png'
        self.spoil(path, damage)
        valid = damage in UNUSUAL and consumer == self.trained
        run = functools.partial(consumer, folder, path)
        return Case('masks', damage, (path.name,), run, valid)

    def spoil(self, path: Path, damage: str) -> None:
        rng, content = self.world.random, path.read_bytes()
        mask = np.asarray(Image.open(path))
        path.unlink()
        if damage in LOST:
            path.write_bytes(LOST[damage](content, rng))
        elif damage in WRONG:
            path.write_bytes(WRONG[damage](mask, rng))
        elif damage in UNUSUAL:
            path.write_bytes(UNUSUAL[damage](mask, rng))
        elif damage == 'a folder':
            path.mkdir()
        elif damage == 'a dead link':
            path.symlink_to(path.with_name('gone.png'))
        elif damage == 'renamed':
            path.with_name(f'{path.stem}_mask.png').write_bytes(content)

    def inspected(self, folder: Path, path: Path) -> str | None:
        config = write_config('segmentation', folder, folder.parent)
        report = inspect(read_config(str(config)), jobs=0)
        notes = [f'{f.file}: {f.kind}: {f.text}' for f in report.findings if f.kind in BROKEN]
        if notes:
            return notes[0]
        labels = expected_labels(path)
        if labels is None:
            raise WrongResultError('inspected as a good mask, but it has no labels of the classes')
        sample = next(s for s in report.splits['train'].samples if s.mask == str(path))
        if sample.counts.tolist() != np.bincount(labels.ravel(), minlength=256).tolist():
            raise WrongResultError('inspected with other labels than Pillow reads')
        return None

    def trained(self, folder: Path, path: Path) -> None:
        config = write_config('segmentation', folder, folder.parent)
        weights = self.world.train(config)
        labels = expected_labels(path)
        if labels is None:
            raise WrongResultError('trained on a mask that has no labels of the classes')
        data = samples(config)
        place = next(n for n, image in enumerate(infos(data)) if Path(image).name == path.name)
        if not np.array_equal(load_sample(data, place)['gt_seg_map'], labels):
            raise WrongResultError('its labels differ from those that Pillow reads')
        clean = self.world.copy(self.world.masks)
        Image.fromarray(labels).save(clean / 'masks/train' / path.name)
        same = write_config('segmentation', clean, clean.parent)
        check_equal(weights, self.world.train(same), 'training')


def expected_labels(path: Path) -> Mask | None:
    """Labels as Pillow reads them; None if they do not fit a picture of 16 x 16 and the classes."""
    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except (OSError, SyntaxError, ValueError):
        return None
    good = values.shape == (16, 16) and np.isin(values, (*range(CLASSES), 255)).all()
    return values.astype(np.uint8) if good else None
