"""Damage to the content of files, which bad_inputs.py does with a seed."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(1, len(content))]


def emptied(content: bytes, rng: random.Random) -> bytes:
    return b''


def zeroed(content: bytes, rng: random.Random) -> bytes:
    return bytes(len(content))


def text(content: bytes, rng: random.Random) -> bytes:
    return ('404: not found\n' * rng.randrange(1, 50)).encode()


def web_page(content: bytes, rng: random.Random) -> bytes:
    return b'<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n'


def noise(content: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(1, 2 * len(content)))


def start_lost(content: bytes, rng: random.Random) -> bytes:
    return content[rng.randrange(1, min(64, len(content))) :]


def start_zeroed(content: bytes, rng: random.Random) -> bytes:
    number = rng.randrange(8, max(9, len(content) // 2))
    return bytes(number) + content[number:]


def other_zip(content: bytes, rng: random.Random) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        archive.writestr('notes.txt', 'no weights here')
    return buffer.getvalue()


# Damage after which a file of any kind holds nothing.
LOST: dict[str, Callable[[bytes, random.Random], bytes]] = {
    'truncated': cut,
    'empty': emptied,
    'zeroed': zeroed,
    'a text': text,
    'a web page': web_page,
    'noise': noise,
    'start lost': start_lost,
}
