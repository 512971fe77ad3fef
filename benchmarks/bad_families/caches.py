"""Damaged caches of first passes: a training must not notice, or say so."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from bad_world import World
from judging import Case, WrongResultError
from small_jobs import write_config
from torch import Tensor


def one_file(folder: Path, rng: random.Random, suffix: str = '') -> Path:
    return rng.choice([path for path in sorted(folder.iterdir()) if path.name.endswith(suffix)])


def cut(folder: Path, rng: random.Random) -> None:
    path = one_file(folder, rng)
    os.truncate(path, rng.randrange(path.stat().st_size))


def zeroed(folder: Path, rng: random.Random) -> None:
    path = one_file(folder, rng)
    content = bytearray(path.read_bytes())
    start = rng.randrange(len(content))
    number = rng.randrange(1, len(content) - start + 1)
    content[start : start + number] = bytes(number)
    path.write_bytes(content)


def one_bit(folder: Path, rng: random.Random) -> None:
    path = one_file(folder, rng)
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def header(folder: Path, rng: random.Random) -> None:
    path = one_file(folder, rng, '.npy')
    content = path.read_bytes()
    path.write_bytes(rng.randbytes(64) + content[64:])


def longer(folder: Path, rng: random.Random) -> None:
    with one_file(folder, rng).open('ab') as file:
        file.write(rng.randbytes(rng.randrange(1, 1000)))


def missing(folder: Path, rng: random.Random) -> None:
    one_file(folder, rng).unlink()


def other_file(folder: Path, rng: random.Random) -> None:
    one_file(folder, rng).write_bytes(
        rng.choice([b'404: not found', b'PK\x03\x04', rng.randbytes(99)])
    )


def a_folder(folder: Path, rng: random.Random) -> None:
    path = one_file(folder, rng)
    path.unlink()
    path.mkdir()


def further_files(folder: Path, rng: random.Random) -> None:
    (folder / 'notes.txt').write_text('mine')
    (folder / '9.npy').write_bytes(rng.randbytes(99))


def exchanged(folder: Path, rng: random.Random) -> None:
    """Two records change places in all arrays, with or without their checksums.

    The checksum over the description stays: no accident changes both.
    """
    meta = json.loads((folder / 'meta.json').read_text())
    one, other = rng.sample(range(meta['number']), 2)
    with_sums = rng.random() < 0.5
    for name, (dtype, *shape) in meta['arrays'].items():
        array = np.memmap(folder / f'{name}.npy', dtype, 'r+', meta['offsets'][name], tuple(shape))
        array[[one, other]] = array[[other, one]]
        array.flush()
        if with_sums:
            sums = np.frombuffer(bytes.fromhex(meta['checksums'][name]), '<u4').copy()
            sums[[one, other]] = sums[[other, one]]
            meta['checksums'][name] = sums.tobytes().hex()
    (folder / 'meta.json').write_text(json.dumps(meta))


def meta_value(folder: Path, rng: random.Random) -> None:
    meta = json.loads((folder / 'meta.json').read_text())
    key = rng.choice([key for key in meta if key != 'checksum'])
    meta[key] = rng.choice([None, 5, 'text', {}, [], {'3': 1}, 10**9])
    (folder / 'meta.json').write_text(json.dumps(meta))


INSIDE: dict[str, Callable[[Path, random.Random], None]] = {
    'truncated': cut,
    'zeroed in part': zeroed,
    'one bit': one_bit,
    'header of an array': header,
    'longer': longer,
    'a missing file': missing,
    'another file': other_file,
    'a folder for a file': a_folder,
    'further files': further_files,
    'records exchanged': exchanged,
    'a value of the description': meta_value,
}
FOREIGN = ('cache of other images', 'cache of another model', 'a file for the cache')
KINDS = (*INSIDE, *FOREIGN, 'a folder of a killed process', 'the lock is a folder')


class Caches:
    """Caches of first passes; the training must end as without one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.stored: dict[str, Path] = {}

    @functools.cached_property
    def weights(self) -> dict[str, Tensor]:
        """Weights of the training without a cache."""
        config = self.config(self.world.folder / 'clean_uncached', self.world.images, cached=False)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return self.world.train(config)

    def config(self, folder: Path, images: Path, width: int = 16, cached: bool = True) -> Path:
        path = write_config('short', images, folder)
        with path.open('a') as file:
            file.write(f"model['backbone']['arch']['feedforward_channels'] = {width * 2}\n")
            file.write("optim_wrapper['optimizer'] = dict(type='SGD', lr=0.1)\n")
            if cached:
                file.write(f"first_pass_cache = dict(folder='{folder}/caches', dtype='float32')\n")
        return path

    def store(self, name: str, images: Path, width: int = 16) -> Path:
        """The folder of caches that a clean training leaves."""
        if name not in self.stored:
            folder = self.world.folder / f'clean_cache_{name}'
            config = self.config(folder, images, width)
            self.world.silent_train(config)
            self.stored[name] = folder / 'caches'
        return self.stored[name]

    def case(self, turn: int) -> Case:
        damage, rng = KINDS[turn % len(KINDS)], self.world.random
        folder = self.world.fresh()
        shutil.copytree(self.store('same', self.world.images), folder / 'caches')
        caches = sorted(path for path in (folder / 'caches').iterdir() if path.is_dir())
        cache = rng.choice(caches)
        if damage in INSIDE:
            INSIDE[damage](cache, rng)
        elif damage == 'a file for the cache':
            shutil.rmtree(cache)
            cache.write_text('mine')
        elif damage in FOREIGN:
            other = self.foreign(damage)
            number = json.loads((cache / 'meta.json').read_text())['number']
            (same,) = (
                path
                for path in other.iterdir()
                if path.is_dir()
                and json.loads((path / 'meta.json').read_text())['number'] == number
            )
            shutil.rmtree(cache)
            shutil.copytree(same, cache)
        elif damage == 'the lock is a folder':
            shutil.rmtree(cache)
            lock = cache.with_suffix('.lock')
            lock.unlink(missing_ok=True)
            lock.mkdir()
        else:
            shutil.copytree(cache, cache.with_name(f'{cache.name}.partial'))
            cut(cache, rng)
        return Case(
            'caches', damage, (cache.name, 'caches'), functools.partial(self.trained, folder)
        )

    def foreign(self, damage: str) -> Path:
        """Caches that have the form of the right ones, of other values."""
        if damage == 'cache of another model':
            return self.store('model', self.world.images, width=32)
        images = self.world.folder / 'clean_other_images'
        if not images.exists():
            shutil.copytree(self.world.images, images)
            for part in ('train', 'val'):
                first, second = (images / part / f'class_{label}' for label in range(2))
                for one, other in zip(
                    sorted(first.iterdir()), sorted(second.iterdir()), strict=True
                ):
                    content = one.read_bytes()
                    one.write_bytes(other.read_bytes())
                    other.write_bytes(content)
        return self.store('images', images)

    def trained(self, folder: Path) -> None:
        weights = self.world.train(self.config(folder, self.world.images))
        expected = self.weights
        for name, tensor in weights.items():
            if not torch.allclose(tensor, expected[name], rtol=1e-4, atol=1e-6):
                raise WrongResultError(f'weight {name} is not that of the training without a cache')
