"""Memory-mapped files of first passes: computed once, used by every run on the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from toast_mm.files import WriteError
from toast_mm.models.backbones.first_pass import FirstPass

from .records import Records, RecordWriter


class FirstPassCache(Records):
    """First passes of the images of one data set, read from disk on demand.

    Args:
        folder: Folder that :func:`write` made.
    """

    def mend(self, damaged: Sequence[int], batches: Iterable[tuple[Tensor, FirstPass]]) -> None:
        """Write damaged records again.

        Args:
            damaged: Their indices.
            batches: Their images and first passes, as for :func:`write`.

        Raises:
            WriteError: They cannot be written.
        """
        arrays = self.meta['arrays']
        (dtype,) = {array[0] for name, array in arrays.items() if name != 'image'}
        values = (_values(*batch, dtype, 'image' in arrays) for batch in batches)
        try:
            self.rewrite(damaged, values)
        except OSError as error:
            raise WriteError(f'the cache {self.folder} cannot be repaired: {error}') from error

    def read(self, indices: Sequence[int]) -> FirstPass:
        """First pass of some images, on the CPU and as stored."""
        streams = {
            int(name): torch.from_numpy(array[list(indices)])
            for name, array in self.arrays.items()
            if name != 'image'
        }
        sizes = {int(block): size for block, size in self.meta['sizes'].items()}
        context = self.meta['context']
        context = tuple(context) if isinstance(context, list) else context
        return FirstPass(streams, sizes, context, scale=self.meta.get('scale', 1.0))

    def image(self, index: int) -> np.ndarray:
        """Transformed image ``(H, W, bands)``; a single pixel if images are not stored."""
        if 'image' not in self.arrays:
            return np.zeros((1, 1, self.meta.get('bands', 3)), np.uint8)
        return np.array(self.arrays['image'][index].transpose(1, 2, 0))


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
        batches: Images ``(B, bands, H, W)`` before preprocessing and their first passes, in the
            order of the data set.
        dtype: Type of the streams, ``'float16'`` or ``'float32'``.
        with_images: Whether to store the images as well.
        announce: Called before writing with a message of the size and the folder.

    Raises:
        WriteError: There is not enough space.
        ValueError: A stream does not fit float16.
    """
    try:
        with RecordWriter(folder, number, announce) as writer:
            for images, first in batches:
                writer.add(_values(images, first, dtype, with_images))
            sizes = {block: list(size) for block, size in first.sizes.items()}
            writer.finish(
                sizes=sizes, context=first.context, bands=images.shape[1], scale=first.scale
            )
    except OSError as error:
        raise WriteError(f'the first pass cannot be cached in {folder}: {error}') from error


def _values(
    images: Tensor, first: FirstPass, dtype: str, with_images: bool
) -> dict[str, np.ndarray]:
    """Arrays to store for a batch; images are embedded again when they are read."""
    streams = {block: stream for block, stream in first.streams.items() if block >= 0}
    values = {str(block): _to_numpy(stream, dtype) for block, stream in streams.items()}
    return values | (dict(image=images.numpy()) if with_images else {})


def _to_numpy(stream: Tensor, dtype: str) -> np.ndarray:
    values = stream.to(getattr(torch, dtype))
    if not values.isfinite().all():
        raise ValueError(
            f'the first pass has values up to {stream.abs().max():g}, which {dtype} cannot hold: '
            "set first_pass_cache.dtype='float32'"
        )
    return values.cpu().numpy()
