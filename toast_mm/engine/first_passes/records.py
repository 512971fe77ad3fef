"""Arrays of records in memory-mapped files, with a checksum of every record."""

from __future__ import annotations

import json
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from toast_mm.files import write_atomically


class DamagedCacheError(RuntimeError):
    """The description of a cache is damaged, so that no record can be used."""


class Records:
    """A folder of arrays with a row for every record, read from disk on demand.

    Call :meth:`damaged` before you use the records.

    Args:
        folder: Folder that a :class:`RecordWriter` made.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def __reduce__(self) -> tuple:  # other processes map the files themselves
        return type(self), (self.folder,)

    @cached_property
    def meta(self) -> dict[str, Any]:
        """Number of records, shapes, checksums, and further values from the writer.

        Raises:
            DamagedCacheError: The description cannot be read, was changed, or is of another folder.
        """
        path = self.folder / 'meta.json'
        try:
            content = json.loads(path.read_text())
            right = content.pop('checksum') == _checksum_of_meta(content)
            if right and content['folder'] == self.folder.name:
                return content
        except (
            FileNotFoundError,
            IsADirectoryError,
            ValueError,
            KeyError,
            AttributeError,
            TypeError,
        ):
            pass
        raise DamagedCacheError(f'{path} is damaged')

    @cached_property
    def arrays(self) -> dict[str, np.memmap]:
        """The arrays by name, read-only."""
        return self.open('r')

    def open(self, mode: Literal['r', 'r+']) -> dict[str, np.memmap]:
        """Map the arrays into memory."""
        if any(np.dtype(dtype).hasobject for dtype, *_ in self.meta['arrays'].values()):
            raise DamagedCacheError(f'{self.folder} holds objects instead of first passes')
        return {
            name: np.memmap(
                self.folder / f'{name}.npy', dtype, mode, self.meta['offsets'][name], tuple(shape)
            )
            for name, array in self.meta['arrays'].items()
            for dtype, *shape in [array]
        }

    def damaged(self, indices: Iterable[int] | None = None) -> list[int]:
        """Read records and return the indices of those whose checksum is wrong.

        Args:
            indices: Records to check. Defaults to None, which checks all.

        Raises:
            DamagedCacheError: The folder as a whole is damaged.
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

    def rewrite(self, damaged: Sequence[int], batches: Iterable[Mapping[str, np.ndarray]]) -> None:
        """Write damaged records again.

        Args:
            damaged: Their indices.
            batches: Their values by name of the array, in this order.
        """
        self.__dict__.pop('arrays', None)
        for name, array in self.meta['arrays'].items():  # restores the size of a file that was cut
            os.truncate(
                self.folder / f'{name}.npy',
                self.meta['offsets'][name] + self.meta['number'] * _record_size(array),
            )
        arrays = self.open('r+')
        sums = {name: _unpack(packed) for name, packed in self.meta['checksums'].items()}
        start = 0
        for values in batches:
            rows = list(damaged[start : start + _length(values)])
            start += len(rows)
            for name, array in arrays.items():
                array[rows] = values[name]
                sums[name][rows] = _checksums(array[rows])
        for array in arrays.values():
            array.flush()
        content = dict(self.meta, checksums={name: _pack(s) for name, s in sums.items()})
        _write_meta(self.folder, content)
        self.__dict__.pop('meta')


class RecordWriter:
    """Writer of a folder of arrays; the folder appears when it is complete.

    Args:
        folder: Folder to make; a damaged one of this name is replaced.
        number: Number of records.
        announce: Called before writing with a message of the size and the folder.
    """

    def __init__(self, folder: Path, number: int, announce: Callable[[str], None]) -> None:
        self.folder = folder
        self.number = number
        self.announce = announce
        self._partial = folder.with_name(f'{folder.name}.partial')
        self._arrays: dict[str, np.memmap] = {}
        self._sums: dict[str, list[NDArray[np.uint32]]] = {}
        self._start = 0

    def __enter__(self) -> RecordWriter:
        shutil.rmtree(self._partial, ignore_errors=True)  # left by a killed process
        return self

    def __exit__(self, *exception: Any) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)

    def add(self, values: Mapping[str, np.ndarray]) -> None:
        """Write the next records, by name of the array.

        Raises:
            OSError: There is not enough space for all records.
        """
        if not self._arrays:
            size = _total(values, self.number)
            self.announce(f'{size / 2**20:.1f} MiB in {self.folder}')
            self._arrays = _allocate(self._partial, values, self.number)
        stop = self._start + _length(values)
        for name, array in self._arrays.items():
            array[self._start : stop] = values[name]
            self._sums.setdefault(name, []).append(_checksums(values[name]))
        self._start = stop

    def finish(self, **described: Any) -> None:
        """Write the description of the records, and rename the folder.

        Args:
            **described: Further values for :attr:`Records.meta`.
        """
        for array in self._arrays.values():
            array.flush()
        meta = dict(
            number=self.number,
            folder=self.folder.name,  # which is a key: records of another key are not taken
            arrays={name: [str(array.dtype), *array.shape] for name, array in self._arrays.items()},
            **described,
            offsets={name: array.offset for name, array in self._arrays.items()},
            checksums={name: _pack(np.concatenate(parts)) for name, parts in self._sums.items()},
        )
        _write_meta(self._partial, meta)
        # Removes a damaged folder; a process that has it open keeps its files.
        shutil.rmtree(self.folder, ignore_errors=True)
        self._partial.rename(self.folder)


def _record_size(array: Sequence[Any]) -> int:
    dtype, _, *shape = array
    return np.dtype(dtype).itemsize * math.prod(shape)


def _length(values: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(values.values())))


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
    write_atomically(json.dumps(checked, indent=1).encode(), str(folder / 'meta.json'))


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
