"""Decoded images and masks that stay in memory, for several trainings in one process."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np

from toast_mm.seeding import kept_random_state

Key = tuple[Any, ...]


class KeepingLoader(ABC):
    """A transform that takes images from memory if they are kept."""

    backend_args: dict | None

    @abstractmethod
    def read(self, path: str) -> np.ndarray:
        """Read and decode a file."""

    def load(self, path: str, *settings: Any) -> np.ndarray:
        """An image that may be changed.

        Args:
            path: The file.
            *settings: What the image depends on besides its file.
        """
        if _in_use is None or self.backend_args:
            return self.read(path)
        return _in_use.get(path, settings, partial(self.read, path))


class KeptImages:
    """Decoded images of data sets, up to a number of bytes.

    The loaders of this package take copies, so that transforms change no kept image. An image is
    kept for the path, size and time of its file and the settings of its loader: a file that has
    changed is decoded again. Processes that load data find the images if they are forked; spawned
    ones decode as usual.

    Args:
        limit: Number of bytes. If it is reached, images that the current training does not need
            are removed, and then further ones are not kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._images: OrderedDict[Key, np.ndarray] = OrderedDict()
        self._needed: set[Key] = set()
        self._filling = self._full = False

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Serve the loaders of a training inside."""
        global _in_use
        self._needed, self._full = set(), False
        _in_use = self
        try:
            yield
        finally:
            _in_use = None

    def fill(self, dataset: Any) -> None:
        """Decode the images and masks of a data set without wrappers that are not kept yet."""
        transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
        loaders: list[Any] = [each for each in transforms if isinstance(each, KeepingLoader)]
        self._filling = True
        try:
            with kept_random_state():
                for index in range(len(dataset) if loaders else 0):
                    if self._full:
                        break
                    with suppress(Exception):  # training raises it, with the sample it belongs to
                        sample = dataset.get_data_info(index)
                        for loader in loaders:
                            sample = loader.transform(sample)
        finally:
            self._filling = False

    def get(self, path: str, settings: Key, decode: Callable[[], np.ndarray]) -> np.ndarray:
        """A copy of the kept image of a file, or the image that ``decode`` returns."""
        try:
            status = os.stat(path)
        except OSError:  # remote, or missing: decoding says so
            return decode()
        key = (path, status.st_size, status.st_mtime_ns, *settings)
        image = self._images.get(key)
        if image is not None:
            if self._filling:
                self._images.move_to_end(key)
                self._needed.add(key)
            return image.copy()
        image = decode()
        if self._filling and image.flags.c_contiguous:  # a copy of another would differ in strides
            self._keep(key, image.copy())
        return image

    def _keep(self, key: Key, image: np.ndarray) -> None:
        while self.size + image.nbytes > self.limit:
            oldest = next(iter(self._images), None)
            if oldest is None or oldest in self._needed:
                self._full = True
                return
            self.size -= self._images.pop(oldest).nbytes
        image.setflags(write=False)
        self._images[key] = image
        self._needed.add(key)
        self.size += image.nbytes


_in_use: KeptImages | None = None


def keep_images(dataset: Any) -> None:
    """Decode the images of a data set without wrappers before they are used, if images are kept."""
    if _in_use is not None:
        _in_use.fill(dataset)
