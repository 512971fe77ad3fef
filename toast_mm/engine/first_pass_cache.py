"""First passes on disk, memory-mapped: computed once, used by every run on the same images."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import random
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from toast_mm.datasets import SeedAugmentation
from toast_mm.files import WriteError, write_whole
from toast_mm.fingerprint import fingerprint
from toast_mm.models.backbones.first_pass import FirstPass
from toast_mm.models.backbones.steering import SteeredBackbone
from toast_mm.registry import type_name
from toast_mm.version import __version__

# Arguments of a backbone that its first pass does not depend on, or that its weights tell.
_IRRELEVANT = {
    'channel_selection',
    'drop_path_rate',
    'feedback_gain',
    'feedback_std',
    'init_cfg',
    'lite',
    'pretuned',
    'token_selection',
    'tune_channel_transform',
    'value_bias_twice',
}


class DamagedCacheError(RuntimeError):
    """What describes a cache is damaged, so that nothing in it can be used."""


class FirstPassCache:
    """First passes of the images of one data set, read from the disk as they are needed.

    Every record has a checksum. Whoever opens a cache asks for :meth:`damaged` ones first.

    Args:
        folder: Folder that :func:`write` made.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def __reduce__(self) -> tuple:  # processes share the file, not its content
        return FirstPassCache, (self.folder,)

    @cached_property
    def meta(self) -> dict[str, Any]:
        """Number of images, shapes, the constants of the first pass, and checksums.

        Raises:
            DamagedCacheError: They cannot be read, or are not as they were written.
        """
        path = self.folder / 'meta.json'
        try:
            content = json.loads(path.read_text())
            if content.pop('checksum') == _checksum_of_meta(content):
                return content
        except (FileNotFoundError, ValueError, KeyError, AttributeError, TypeError):
            pass
        raise DamagedCacheError(f'{path} is damaged')

    @cached_property
    def _arrays(self) -> dict[str, np.memmap]:
        return self._open('r')

    def _open(self, mode: Literal['r', 'r+']) -> dict[str, np.memmap]:
        if any(np.dtype(dtype).hasobject for dtype, *_ in self.meta['arrays'].values()):
            raise DamagedCacheError(f'{self.folder} holds objects, and no first passes')
        return {
            name: np.memmap(
                self.folder / f'{name}.npy', dtype, mode, self.meta['offsets'][name], tuple(shape)
            )
            for name, array in self.meta['arrays'].items()
            for dtype, *shape in [array]
        }

    def damaged(self, indices: Iterable[int] | None = None) -> list[int]:
        """Indices of the records that are not as they were written; reads all that it looks at.

        Args:
            indices: Records to look at. Defaults to None, all.

        Raises:
            DamagedCacheError: The cache as a whole is damaged.
        """
        indices = range(self.meta['number']) if indices is None else list(indices)
        found: set[int] = set()
        for name, array in self.meta['arrays'].items():
            size, sums = _record_size(array), _unpack(self.meta['checksums'][name])
            path = self.folder / f'{name}.npy'
            if not path.is_file():
                raise DamagedCacheError(f'{path} is missing')
            with open(path, 'rb') as file:
                for index in indices:
                    file.seek(self.meta['offsets'][name] + index * size)
                    if zlib.crc32(file.read(size)) != sums[index]:
                        found.add(index)
        return sorted(found)

    def mend(self, damaged: Sequence[int], batches: Iterable[tuple[Tensor, FirstPass]]) -> None:
        """Write damaged records again.

        Args:
            damaged: Their indices.
            batches: Their images and first passes, as for :func:`write`.

        Raises:
            WriteError: They cannot be written.
        """
        self.__dict__.pop('_arrays', None)
        try:
            for name, array in self.meta['arrays'].items():  # one of them may have been cut
                os.truncate(
                    self.folder / f'{name}.npy',
                    self.meta['offsets'][name] + self.meta['number'] * _record_size(array),
                )
            arrays = self._open('r+')
            sums = {name: _unpack(packed) for name, packed in self.meta['checksums'].items()}
            start = 0
            for images, first in batches:
                rows = list(damaged[start : start + len(images)])
                start += len(images)
                for name, array in arrays.items():
                    dtype = self.meta['arrays'][name][0]
                    array[rows] = (
                        images.numpy()
                        if name == 'image'
                        else _to_numpy(first.streams[int(name)], dtype)
                    )
                    sums[name][rows] = _checksums(array[rows])
            for array in arrays.values():
                array.flush()
            content = dict(self.meta, checksums={name: _pack(s) for name, s in sums.items()})
            _write_meta(self.folder, content)
        except OSError as error:
            raise WriteError(f'the cache {self.folder} cannot be mended: {error}') from error
        self.__dict__.pop('meta')

    def read(self, indices: Sequence[int]) -> FirstPass:
        """First pass of some images, on the CPU and as stored."""
        streams = {
            int(name): torch.from_numpy(array[list(indices)])
            for name, array in self._arrays.items()
            if name != 'image'
        }
        sizes = {int(block): size for block, size in self.meta['sizes'].items()}
        context = self.meta['context']
        return FirstPass(streams, sizes, tuple(context) if isinstance(context, list) else context)

    def image(self, index: int) -> np.ndarray:
        """Image ``(H, W, 3)`` as the transforms left it; of one pixel if nothing needs images."""
        if 'image' not in self._arrays:
            return np.zeros((1, 1, 3), np.uint8)
        return np.array(self._arrays['image'][index].transpose(1, 2, 0))


def write(
    folder: Path,
    number: int,
    batches: Iterable[tuple[Tensor, FirstPass]],
    dtype: str,
    with_images: bool,
    announce: Callable[[str], None] = print,
) -> None:
    """Write the first passes of a data set; the folder appears when it is complete.

    Args:
        folder: Folder to make.
        number: Number of images.
        batches: Images ``(B, 3, H, W)`` before preprocessing and their first passes, in the order
            of the data set.
        dtype: ``'float16'`` or ``'float32'``, of the streams.
        with_images: Whether the images are kept as well.
        announce: Is told how much is written where, before it is.

    Raises:
        WriteError: There is no room for it.
        ValueError: A stream does not fit float16.
    """
    partial = folder.with_name(f'{folder.name}.partial')
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    arrays: dict[str, np.memmap] = {}
    sums: dict[str, list[NDArray[np.uint32]]] = {}
    start = 0
    try:
        for images, first in batches:
            tensors = {str(block): stream for block, stream in first.streams.items() if block >= 0}
            values = {name: _to_numpy(tensor, dtype) for name, tensor in tensors.items()}
            if with_images:
                values['image'] = images.numpy()
            if not arrays:
                announce(f'{_total(values, number) / 2**20:.1f} MiB in {folder}')
                arrays = _allocate(partial, values, number)
            for name, array in arrays.items():
                array[start : start + len(images)] = values[name]
                sums.setdefault(name, []).append(_checksums(values[name]))
            start += len(images)
        for array in arrays.values():
            array.flush()
        meta = dict(
            number=number,
            arrays={name: [str(array.dtype), *array.shape] for name, array in arrays.items()},
            sizes={block: list(size) for block, size in first.sizes.items()},
            context=first.context,
            offsets={name: array.offset for name, array in arrays.items()},
            checksums={name: _pack(np.concatenate(parts)) for name, parts in sums.items()},
        )
        _write_meta(partial, meta)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one; who has it open keeps its files
        partial.rename(folder)
    except OSError as error:
        raise WriteError(f'the first pass cannot be cached in {folder}: {error}') from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _record_size(array: Sequence[Any]) -> int:
    dtype, _, *shape = array
    return np.dtype(dtype).itemsize * math.prod(shape)


def _checksums(records: np.ndarray) -> NDArray[np.uint32]:
    return np.array([zlib.crc32(record.tobytes()) for record in records], np.uint32)


def _pack(sums: NDArray[np.uint32]) -> str:
    return sums.astype('<u4').tobytes().hex()


def _unpack(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(bytes.fromhex(text), '<u4').copy()


def _checksum_of_meta(content: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def _write_meta(folder: Path, content: dict[str, Any]) -> None:
    content = json.loads(json.dumps(content))  # as it is read: keys are strings
    checked = dict(content, checksum=_checksum_of_meta(content))
    write_whole(json.dumps(checked, indent=1).encode(), str(folder / 'meta.json'))


def _to_numpy(stream: Tensor, dtype: str) -> np.ndarray:
    values = stream.to(getattr(torch, dtype))
    if not values.isfinite().all():
        raise ValueError(
            f'the first pass has values up to {stream.abs().max():g}, which {dtype} cannot hold: '
            "say first_pass_cache.dtype='float32'"
        )
    return values.cpu().numpy()


def _total(values: Mapping[str, np.ndarray], number: int) -> int:
    return sum(number * array[0].nbytes for array in values.values())


def _allocate(folder: Path, values: Mapping[str, np.ndarray], number: int) -> dict[str, np.memmap]:
    folder.mkdir(parents=True)
    needed, free = _total(values, number), shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(f'{needed / 2**20:.1f} MiB are needed, {free / 2**20:.1f} MiB are free')
    arrays = {}
    for name, value in values.items():
        path = folder / f'{name}.npy'
        shape = (number, *value.shape[1:])
        arrays[name] = open_memmap(path, 'w+', value.dtype, shape)
        with open(path, 'r+b') as file:  # a full disk is an error now, and no signal later
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return arrays


def cache_key(
    backbone: SteeredBackbone,
    config: Mapping[str, Any],
    preprocessing: Mapping[str, Any],
    pipeline: Sequence[Mapping[str, Any]],
    dataset: Any,
    dtype: str,
) -> str:
    """What a first pass follows from: weights, arguments, transforms, and the images themselves.

    Images are known by path, size and time of change.

    Args:
        backbone: The backbone, for its weights.
        config: Its config.
        preprocessing: Config of the data preprocessor.
        pipeline: Config of the transforms.
        dataset: Data set of mmengine.
        dtype: Of the cached streams.

    Raises:
        FileNotFoundError: An image is missing; names it.
        ValueError: The data set does not say which images it has.
    """
    weights = {
        name: tensor for name, tensor in backbone.state_dict().items() if backbone.is_base(name)
    }
    described = dict(
        version=__version__,
        weights=fingerprint(weights),
        backbone={name: value for name, value in config.items() if name not in _IRRELEVANT},
        preprocessing=preprocessing,
        pipeline=[step for step in pipeline if type_name(step) != 'SeedAugmentation'],
        dtype=dtype,
    )
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=repr).encode())
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        if 'img_path' in info:
            stat = os.stat(info['img_path'])
            digest.update(f'{info["img_path"]} {stat.st_size} {stat.st_mtime_ns}\n'.encode())
        elif 'img' in info:
            digest.update(np.ascontiguousarray(info['img']).data)
        else:
            raise ValueError(
                f'first_pass_cache: {type(dataset).__name__} does not say which images it has: its '
                "samples have neither 'img_path' nor 'img'"
            )
    return digest.hexdigest()[:24]


class CheckedPipeline:
    """A pipeline that refuses to be random.

    Raises:
        ValueError: A transform draws a random number; names it.
    """

    def __init__(self, pipeline: Any) -> None:
        # Seeding has no meaning where nothing is drawn.
        self.transforms = [t for t in pipeline.transforms if not isinstance(t, SeedAugmentation)]

    def __call__(self, results: dict) -> dict | None:
        """Run the transforms."""
        for transform in self.transforms:
            name = type(transform).__name__
            before = _random_state()
            results = transform(results)
            # Albumentations draw from generators of their own.
            if name.startswith('Albu') or _random_state() != before:
                raise ValueError(
                    f'first_pass_cache: {name} is random, so that the first pass differs from '
                    'epoch to epoch and cannot be computed once: take it out of the pipeline, or '
                    'train without the cache'
                )
        return results


def _random_state() -> tuple:
    return (
        random.getstate(),
        pickle.dumps(np.random.get_state()),
        torch.get_rng_state().numpy().tobytes(),
    )


class ServedPipeline:
    """A pipeline whose images come from a cache, and whose samples say which first pass is theirs.

    A classification sample is packed without its image file being opened. Others, which may need
    the image for their truth, go through their transforms.

    Args:
        pipeline: The pipeline, checked to be without randomness.
        cache: First passes of its data set.
        number: Which one of the caches of the run this is.
    """

    def __init__(self, pipeline: Any, cache: FirstPassCache, number: int) -> None:
        self.pipeline = pipeline
        self.cache = cache
        self.number = number
        last = pipeline.transforms[-1]
        self.pack = last if type(last).__name__ == 'PackInputs' else None

    def __call__(self, results: dict) -> dict:
        """Sample with ``first_pass``: number of the cache and index in it."""
        index = int(results['sample_idx'])
        if self.pack is None:
            packed = self.pipeline(results)
        else:
            packed = self.pack({**results, 'img': self.cache.image(index)})
        packed['data_samples'].set_metainfo(dict(first_pass=(self.number, index)))
        return packed
