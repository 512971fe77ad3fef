"""Damaged configs and wrong settings, for a training."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bad_world import World, check_equal
from judging import Case, WrongResultError
from small_jobs import write_config
from torch import Tensor

from toast_mm.engine.config import read_config

from .bad_settings import OURS, bad_settings


def cut(text: str, rng: random.Random) -> bytes:
    return text[: rng.randrange(len(text))].encode()


def broken(text: str, rng: random.Random) -> bytes:
    """A character is lost or too many."""
    place = rng.choice([place for place, mark in enumerate(text) if mark in "()[]{},='"])
    return (text[:place] + rng.choice(['', '(', '"', '==', '\t']) + text[place + 1 :]).encode()


def line_lost(text: str, rng: random.Random) -> bytes:
    lines = text.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return ''.join(lines).encode()


def unknown_name(text: str, rng: random.Random) -> bytes:
    return (
        f'{text}\n{rng.choice(["x = nothing", "import nothing", "lr = _base_.nothing"])}\n'.encode()
    )


def raises(text: str, rng: random.Random) -> bytes:
    line = rng.choice(
        ['1 / 0', 'raise ValueError', '[][0]', 'dict()["x"]', 'assert False', 'exit(3)']
    )
    return f'{text}\n{line}\n'.encode()


def missing_base(text: str, rng: random.Random) -> bytes:
    base = rng.choice(
        ['gone.py', '../gone/base.py', 'toast_mm::gone.py', 'nobody::a/b.py', '', '.']
    )
    return text.replace(base_line(text), f'_base_ = {base!r}').encode()


def cyclic(text: str, rng: random.Random) -> bytes:
    return text.replace(base_line(text), "_base_ = './job.py'").encode()


def odd_base(text: str, rng: random.Random) -> bytes:
    value = rng.choice(['5', 'None', '[5]', "dict(a='b')", 'True'])
    return text.replace(base_line(text), f'_base_ = {value}').encode()


def two_bases(text: str, rng: random.Random) -> bytes:
    """Two bases that define the same key."""
    base = base_line(text).removeprefix('_base_ = ')
    return text.replace(base_line(text), f'_base_ = [{base}, {base}]').encode()


def wrong_kind(text: str, rng: random.Random) -> bytes:
    """A section is replaced by something else."""
    key = rng.choice(['model', 'train_dataloader', 'optim_wrapper', 'train_cfg', 'default_hooks'])
    value = rng.choice(['5', "'text'", '[]', 'dict()', 'None', 'print', "dict(type='Nothing')"])
    return f'{text}\n{key} = {value}\n'.encode()


def unknown_key(text: str, rng: random.Random) -> bytes:
    lines = ['first_pas_cache = True', "model['backbone']['depth_'] = 3", "model['hed'] = 5"]
    return f'{text}\n{rng.choice(lines)}\n'.encode()


def base_line(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith('_base_'))


def of_json(text: str, rng: random.Random) -> bytes:
    return json.dumps(dict(model=5)).encode()


WRONG: dict[str, Callable[[str, random.Random], bytes]] = {
    'truncated': cut,
    'a character changed': broken,
    'a line lost': line_lost,
    'an unknown name': unknown_name,
    'raises an error': raises,
    'a missing base': missing_base,
    'its own base': cyclic,
    'a base that is no path': odd_base,
    'a base twice': two_bases,
    'a section of another kind': wrong_kind,
    'an unknown key': unknown_key,
    'empty': lambda text, rng: b'',
    'zeroed': lambda text, rng: bytes(len(text)),
    'noise': lambda text, rng: rng.randbytes(500),
    'JSON': of_json,
    'UTF-16': lambda text, rng: text.encode('utf-16'),
    'Latin-1': lambda text, rng: f"{text}\nname = 'Wei\u00df'\n".encode('latin-1'),
}
# A reader may refuse these, but not read something else.
HARMLESS: dict[str, Callable[[str, random.Random], bytes]] = {
    'byte order mark': lambda text, rng: b'\xef\xbb\xbf' + text.encode(),
    'lines of Windows': lambda text, rng: text.replace('\n', '\r\n').encode(),
}
SETTINGS = tuple(f'wrong setting {number}' for number in range(1, 9))
KINDS = (*WRONG, *HARMLESS, 'two configs of each other', 'a folder', 'missing', 'wrong suffix')
# Keys whose loss an error may name.
KEYS = (
    *(
        'model',
        'train_dataloader',
        'optim_wrapper',
        'train_cfg',
        'val_',
        'test_',
        'param_scheduler',
    ),
    *(
        'default_hooks',
        'default_scope',
        '_base_',
        'backbone',
        'head',
        'data_preprocessor',
        'dataset',
    ),
    *('pipeline', 'sampler', 'LoadImageFromFile', 'inputs'),
)


class Configs:
    """Config files of a training, and settings that are wrong in kind, sign, length or name."""

    def __init__(self, world: World) -> None:
        self.world = world

    @functools.cached_property
    def settings(self) -> list[tuple[str, Any]]:
        config = read_config(str(self.world.trained / 'short.py'))
        return bad_settings(config, 1000, seed=self.world.random.randrange(1000))

    @functools.cached_property
    def weights(self) -> dict[str, Tensor]:
        return torch.load(self.world.trained / 'trained/epoch_1.pth')['state_dict']

    def case(self, turn: int) -> Case:
        """Half of the cases are wrong settings."""
        half, is_setting = divmod(turn, 2)
        if is_setting:
            key, value = self.settings[half % len(self.settings)]
            run = functools.partial(self.with_setting, key, value)
            *_, last = (part for part in key.split('.') if not part.isdigit())
            return Case('configs', 'a wrong setting', (last, str(value) or last), run)
        damage, rng = KINDS[half % len(KINDS)], self.world.random
        config = write_config('short', self.world.images, self.world.fresh())
        config = config.rename(config.with_name('job.py'))
        text = config.read_text()
        if damage in WRONG or damage in HARMLESS:
            config.write_bytes((WRONG | HARMLESS)[damage](text, rng))
        elif damage == 'two configs of each other':
            config.write_text(text.replace(base_line(text), "_base_ = './other.py'"))
            config.with_name('other.py').write_text("_base_ = './job.py'\n")
        elif damage == 'wrong suffix':
            config = config.rename(config.with_suffix(rng.choice(['.txt', '.pth', '.json', ''])))
        else:
            config.unlink()
            if damage == 'a folder':
                config.mkdir()
        names = (config.name, 'job.py')
        if damage in (
            'truncated',
            'a character changed',
            'a line lost',
            'a section of another kind',
        ):
            names = (*names, *KEYS)
        if damage == 'an unknown key':
            names = ('first_pas_cache', 'depth_', 'hed')
        if damage in ('empty', 'JSON'):
            names = (*names, 'model', 'train_dataloader')
        return Case('configs', damage, names, functools.partial(self.trained, damage, config))

    def trained(self, damage: str, config: Path) -> None:
        weights = self.world.train(config)
        if damage in (
            'truncated',
            'a character changed',
            'a line lost',
            'a section of another kind',
        ):
            check_finite(weights)  # it is another config, which may be right
        else:
            check_equal(weights, self.weights, 'training')

    def with_setting(self, key: str, value: Any) -> None:
        config = self.world.fresh() / 'job.py'
        config.write_text(f"_base_ = '{self.world.trained}/short.py'\n")
        try:
            weights = self.world.train(config, **{key: repr(value) if value == '' else value})
        except FileNotFoundError as error:
            if 'epoch_1.pth' not in str(error):
                raise
            return  # the setting is about checkpoints: there is none of this name
        if key.startswith(OURS) and isinstance(value, str):
            raise WrongResultError(f'{key}={value!r} counts')
        check_finite(weights)


def check_finite(weights: dict[str, Tensor]) -> None:
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise WrongResultError(f'{name} is not finite')
