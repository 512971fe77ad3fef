"""Writing the two data sets of handwritten digits."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

import digits_drawing
import numpy as np
from digits_drawing import Drawings
from numpy.random import Generator
from PIL import Image

SIZES = dict(scenes=dict(train=1000, val=200, test=300), cued=dict(train=4000, val=500, test=1000))
ANNOTATIONS = 'annotations.json'  # of the cued images, in the format of OpenMMLab 2.0
RECORD = 'digits.json'  # records what a finished folder was made from


class FolderError(OSError):
    """The folder cannot be made; the message says why."""


def make_digits(
    root: str | os.PathLike[str],
    sizes: dict[str, dict[str, int]] | None = None,
    seed: int = 0,
    track: Callable[..., Iterable[Path]] = lambda paths, total: paths,
) -> bool:
    """Make ``root/scenes`` and ``root/cued``, completely or not at all.

    ``scenes`` is for segmentation and has the layout of PASCAL VOC. ``cued`` is for classification
    and has a folder per split and digit, and a file per split with the boxes of the cards that
    count. All digits are equally frequent.

    Args:
        root: Folder to make. An older one is replaced if its sizes, its seed or
            its code differ.
        sizes: Number of images by data set and split. Defaults to ``SIZES``.
        seed: Seed of all random choices. Defaults to 0.
        track: Shows the progress: it gets an iterator over the written files and
            their ``total``, and yields the files.

    Returns:
        True if the folder was made, False if it existed.

    Raises:
        FolderError: The folder holds something else or cannot be written.
    """
    root, sizes = Path(root), sizes or SIZES
    record = dict(sizes=sizes, seed=seed, code=_code())
    if _is_made(root, record):
        return False
    with _whole_folder(root) as partial:
        paths = []
        for number, (split, drawings) in enumerate(digits_drawing.load_drawings(seed).items()):
            rngs = [np.random.default_rng((seed, number, part)) for part in range(2)]
            paths += [
                _write_scenes(partial / 'scenes', split, sizes['scenes'][split], drawings, rngs[0]),
                _write_cued(partial / 'cued' / split, sizes['cued'][split], drawings, rngs[1]),
            ]
        total = sum(sum(splits.values()) for splits in sizes.values())
        for _ in track(chain(*paths), total=total):
            pass
        (partial / RECORD).write_text(json.dumps(record))
    return True


def _code() -> str:
    """Digest of the code that makes the files."""
    modules = (Path(__file__), Path(digits_drawing.__file__))
    return hashlib.sha256(b''.join(path.read_bytes() for path in modules)).hexdigest()


def _is_made(root: Path, record: dict[str, Any]) -> bool:
    try:
        return json.loads((root / RECORD).read_text()) == record
    except OSError:
        if not root.exists() or (root.is_dir() and not any(root.iterdir())):
            return False
        raise _of_others(root) from None


def _of_others(folder: Path) -> FolderError:
    return FolderError(
        f'{folder} exists and was not made by this command; remove it or choose another folder'
    )


@contextmanager
def _whole_folder(root: Path) -> Iterator[Path]:
    """Yield a folder next to ``root`` that replaces it at the end."""
    partial, former = (root.with_name(f'{root.name}.{suffix}') for suffix in ('partial', 'former'))

    def clean() -> None:
        for folder in (partial, former):
            shutil.rmtree(folder, ignore_errors=True)

    for folder in (partial, former):
        if folder.exists() and not (folder / RECORD).exists():
            raise _of_others(folder)
    try:
        clean()  # after a run that was killed
        partial.mkdir(parents=True)
        (partial / RECORD).touch()
        yield partial
        if root.exists():
            root.rename(former)
        partial.rename(root)
    except OSError as error:
        raise FolderError(f'{root} cannot be made: {error}') from error
    finally:
        clean()


def _write_scenes(
    folder: Path, split: str, number: int, drawings: Drawings, rng: Generator
) -> Iterator[Path]:
    images, masks = folder / 'JPEGImages', folder / 'SegmentationClass'
    lists = folder / 'ImageSets' / 'Segmentation'
    for path in (images, masks, lists):
        path.mkdir(parents=True, exist_ok=True)
    palette = np.full((256, 3), 255, np.uint8)
    palette[: len(digits_drawing.PALETTE)] = digits_drawing.PALETTE
    shuffled = _shuffled_digits(rng)
    names = [f'{split}_{index:04}' for index in range(number)]
    for name in names:
        shown = list(islice(shuffled, 4))
        image, mask = digits_drawing.draw_scene(rng, drawings, shown)
        Image.fromarray(image).save(images / f'{name}.jpg', quality=95, subsampling=0)
        paletted = Image.fromarray(mask)
        paletted.putpalette(palette.tobytes())
        paletted.save(masks / f'{name}.png', compress_level=1)
        yield masks / f'{name}.png'
    (lists / f'{split}.txt').write_text('\n'.join(names) + '\n')


def _write_cued(folder: Path, number: int, drawings: Drawings, rng: Generator) -> Iterator[Path]:
    images = []
    for index, digit in enumerate(islice(_shuffled_digits(rng), number)):
        path = folder / str(digit) / f'{index:04}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        image, box = digits_drawing.draw_cued(rng, drawings, digit)
        Image.fromarray(image).save(path, compress_level=1)  # grain hardly compresses
        name = path.relative_to(folder).as_posix()
        images.append(dict(img_path=name, gt_label=digit, gt_bboxes=[box]))
        yield path
    annotations = dict(metainfo=dict(classes=[*map(str, range(10))]), data_list=images)
    (folder / ANNOTATIONS).write_text(json.dumps(annotations))


def _shuffled_digits(rng: Generator) -> Iterator[int]:
    """Endless digits; every ten of them are a permutation of 0 to 9."""
    while True:
        yield from rng.permutation(10).tolist()
