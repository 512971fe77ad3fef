"""Checking one sample of a data set, by the transforms that load it in a training."""

from __future__ import annotations

import hashlib
import os.path as osp
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import mmcv
import mmcv.transforms
import mmseg.datasets.transforms
import numpy as np
from mmengine import fileio
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from toast_mm.datasets import LoadBandsFromFile
from toast_mm.datasets.bad_files import unreadable_file
from toast_mm.datasets.loading import is_deep
from toast_mm.inspection.image_file import GIGANTIC, Content, read_content

DEAD_LINK = 'it is a link without a target'
DARK = 2**4  # brightest value after 4 of 8 bits are lost, as with 12 bits in 16
BINS = 256

# Kinds of errors of loaders, by a phrase of their sentences; others are unreadable files.
KINDS_OF_ERRORS = {
    'is a mask of': 'mask size',
    ' channels, but a mask': 'mask channels',
    'has the label ': 'foreign labels',
}


@dataclass
class Sample:
    """What was found about a sample.

    Attributes:
        image: File of the image.
        mask: File of the mask, or None.
        size: Width and height as loaded, or None.
        kind: Format and mode of the file, such as ``'JPEG RGB'``.
        digest: Digest of the loaded pixels, or None.
        labels: Classes of a classified image.
        counts: Pixels of every label of a mask, ``(256,)``, or None.
        notes: Kind, sentence and file of every finding.
    """

    image: str
    mask: str | None = None
    size: tuple[int, int] | None = None
    kind: str = ''
    digest: bytes | None = None
    labels: tuple[int, ...] = ()
    counts: NDArray[np.int64] | None = None
    notes: list[tuple[str, str, str]] = field(default_factory=list)


def loaders_of(dataset: Any) -> list[Any]:
    """The transforms of a data set that load files."""
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
    return [step for step in transforms if type(step).__name__.startswith('Load')]


def load(dataset: Any, index: int) -> dict[str, Any] | None:
    """Image and mask of a sample, without augmentation; None if the pipeline skips it."""
    results = dataset.get_data_info(index)
    for step in loaders_of(dataset):
        results = step(results)
        if results is None:
            return None
    return results


def check_sample(dataset: Any, index: int, num_classes: int | None) -> Sample:
    """Check the files and labels of a sample.

    Args:
        dataset: A data set without wrappers.
        index: Number of the sample.
        num_classes: Number of classes, or None if it is unknown.
    """
    info = dataset.get_data_info(index)
    sample = Sample(str(info.get('img_path')), info.get('seg_map_path'))
    sample.labels = tuple(int(label) for label in np.atleast_1d(info.get('gt_label', ())).ravel())
    if outside := [label for label in sample.labels if not _is_class(label, num_classes)]:
        text = f'its class is {outside[0]}, but there are {num_classes}'
        sample.notes.append(('labels', text, sample.image))
    loaders = loaders_of(dataset)
    images = [step for step in loaders if hasattr(step, 'color_type') or _has_bands(step)]
    content = _content(sample, sample.image, images)
    masks = [step for step in loaders if step not in images]
    if sample.mask is not None:
        _content(sample, sample.mask, masks, is_mask=True)
    if content is None or _is_bad(sample):
        return sample
    try:
        results = load(dataset, index)
    except Exception as error:  # any that a training would meet
        file = unreadable_file(error) or sample.image
        text = str(error).removeprefix(file).strip() or type(error).__name__
        kinds = [kind for phrase, kind in KINDS_OF_ERRORS.items() if phrase in text]
        if isinstance(error, UnidentifiedImageError):
            text = 'Pillow cannot tell its format'  # its own sentence has the address of an object
        if ('truncated', file) not in [(kind, file) for kind, _, file in sample.notes]:
            sample.notes.append(((*kinds, 'unreadable')[0], text, file))
        return sample
    if results is None:
        sample.notes.append(('unreadable', 'the pipeline skips it (ignore_empty)', sample.image))
        return sample
    if 'gt_seg_map' in results:
        _undo_wrapping(results, masks)
    sample.notes += _notes_of(sample, results, images, dataset, num_classes)
    return sample


def _is_class(label: float, num_classes: int | None) -> bool:
    return label >= 0 and label % 1 == 0 and (num_classes is None or label < num_classes)


def _has_bands(step: Any) -> bool:
    return isinstance(step, LoadBandsFromFile)


def _is_bad(sample: Sample) -> bool:
    return any(kind in ('missing', 'empty file', 'gigantic') for kind, _, _ in sample.notes)


def _content(
    sample: Sample, path: str, loaders: Sequence[Any], is_mask: bool = False
) -> Content | None:
    """Look into a file that some loaders read; None if it cannot be read."""
    backend = getattr(loaders[0], 'backend_args', None) if loaders else None
    try:
        content = fileio.get(path, backend_args=backend)
    except OSError as error:
        dead = osp.islink(path) and not osp.exists(path)
        text = DEAD_LINK if dead else error.strerror or str(error)
        sample.notes.append(('missing', text, path))
        return None
    if not content:
        sample.notes.append(('empty file', 'it has no content', path))
        return None
    if loaders and _has_bands(loaders[0]):
        return Content()  # its loader checks it
    found = read_content(content, path, is_mask)
    sample.notes += [(kind, text, path) for kind, text in found.notes]
    if not is_mask:
        sample.kind = f'{found.format} {found.mode}'.strip()
        if found.format and found.pixels <= GIGANTIC and is_deep(content):
            sample.notes.append(('16 bits', 'more than 8 bits per channel, scaled to 8', path))
    return found


def _undo_wrapping(results: dict[str, Any], loaders: Sequence[Any]) -> None:
    """Put back the values of a mask that mmseg's own loader cut to 8 bits, such as 300 to 44."""
    for step in loaders:
        if not isinstance(step, mmseg.datasets.transforms.LoadAnnotations):
            continue
        content = fileio.get(results['seg_map_path'], step.backend_args)
        stored = mmcv.imfrombytes(content, 'unchanged', backend=step.imdecode_backend).squeeze()
        mask = results['gt_seg_map']
        if stored.dtype != np.uint8 and stored.shape == mask.shape:
            cut = stored.astype(np.uint8) != stored
            results['gt_seg_map'] = np.where(cut, stored, mask)


def _notes_of(
    sample: Sample,
    results: dict[str, Any],
    loaders: Sequence[Any],
    dataset: Any,
    num_classes: int | None,
) -> Iterator[tuple[str, str, str]]:
    """Findings about loaded pixels."""
    image = results.get('img')
    if image is not None:
        sample.size = image.shape[1], image.shape[0]
        form = f'{image.shape} {image.dtype}'.encode()
        content = np.ascontiguousarray(image).tobytes()
        sample.digest = hashlib.blake2b(form + content, digest_size=16).digest()
        plain = any(type(step) is mmcv.transforms.LoadImageFromFile for step in loaders)
        deep = any(kind == '16 bits' for kind, _, _ in sample.notes)
        if plain and deep and image.max() < DARK:
            text = "mmcv's LoadImageFromFile keeps the highest 8 of 16 bits, and it becomes nearly "
            yield 'darkened', f'{text}black; toast_mm.LoadImageFromFile scales it', sample.image
    mask = results.get('gt_seg_map')
    if mask is None:
        return
    path = str(sample.mask)
    if mask.ndim != 2:
        text = f'{mask.shape[-1]} channels; a mask has one, of class numbers'
        yield 'mask channels', text, path
        return
    if sample.size is not None and mask.shape != sample.size[::-1]:
        width, height = sample.size
        text = f'{mask.shape[1]} x {mask.shape[0]} pixels, but its image has {width} x {height}'
        yield 'mask size', text, path
    ignored = getattr(dataset, 'ignore_index', 255)
    values, pixels = np.unique(mask, return_counts=True)
    present = values.tolist()
    sample.counts = np.zeros(BINS, np.int64)
    for value, number in zip(present, pixels.tolist(), strict=True):
        if _is_class(value, BINS):
            sample.counts[int(value)] = number
    known = num_classes or BINS
    foreign = [value for value in present if value != ignored and not _is_class(value, known)]
    if foreign:
        y, x = np.argwhere(mask == foreign[0])[0]
        text = (
            f'labels {", ".join(map(str, foreign[:10]))}, which are not 0..{known - 1} or '
            f'{ignored} (ignored); the first is at x={x} y={y}'
        )
        yield 'foreign labels', text, path
    if present == [ignored]:
        yield 'ignored mask', f'all pixels are {ignored}, which is ignored', path
