"""A sheet of samples with their labels, the counts of classes, and the sizes of images."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from toast_mm.datasets import LoadBandsFromFile
from toast_mm.files import atomic_write
from toast_mm.inspection.data_report import DataReport, SplitReport
from toast_mm.inspection.findings import BROKEN, KINDS
from toast_mm.inspection.sample import load, loaders_of

COLUMNS = 8  # samples of a split
NAMED = 24  # classes whose names fit
SIDE = 256  # of a picture, in pixels


def draw_sheet(report: DataReport, path: str) -> None:
    """Write a picture: counts of classes, sizes and samples of every split.

    Broken samples are left out.

    Raises:
        ValueError: No sample is whole.
        WriteError: The file cannot be written.
    """
    splits = {
        split: found
        for split, found in report.splits.items()
        if _whole(found) and not found.same_as
    }
    if not splits:
        raise ValueError('there is no sample to show: none of them is whole')
    names = max(len(found.classes) for found in splits.values())
    figure = Figure((16, (4 + 0.18 * min(names, NAMED)) * len(splits)), layout='constrained')
    bands = figure.subfigures(len(splits), squeeze=False)[:, 0]
    for (split, found), band in zip(splits.items(), bands, strict=True):
        same = [other for other, one in report.splits.items() if one.same_as == split]
        name = ' and '.join([split, *same])
        band.suptitle(f'{name}: {len(found.samples)} samples', fontweight='bold')
        axes = band.subplot_mosaic(
            [['counts'] * 3 + ['sizes'] * 3 + ['legend'] * 2, [*map(str, range(COLUMNS))]]
        )
        _draw_counts(axes['counts'], found)
        _draw_sizes(axes['sizes'], found)
        _draw_legend(axes['legend'], found)
        for place in range(COLUMNS):
            axes[str(place)].set_axis_off()
        for place, number in enumerate(_chosen(found)):
            _draw_sample(axes[str(place)], found, number)
    with atomic_write(path) as partial:
        figure.savefig(partial, format='png', dpi=80)


def _whole(found: SplitReport) -> list[int]:
    """Numbers of the samples without a broken file."""
    return [
        number
        for number, sample in enumerate(found.samples)
        if sample.size is not None and not any(KINDS[kind] == BROKEN for kind, *_ in sample.notes)
    ]


def _chosen(found: SplitReport) -> list[int]:
    """Numbers of samples, of every class in turn."""
    whole = _whole(found)
    if found.segments:
        places = np.linspace(0, len(whole) - 1, min(COLUMNS, len(whole))).round().astype(int)
        return [whole[place] for place in places]
    turns: dict[tuple[int, ...], int] = {}
    order = []
    for number in whole:
        labels = found.samples[number].labels
        turns[labels] = turns.get(labels, -1) + 1
        order.append((turns[labels], labels, number))
    return [number for *_, number in sorted(order)[:COLUMNS]]


def _draw_counts(axes: Axes, found: SplitReport) -> None:
    axes.set_title('pixels of every class' if found.segments else 'images of every class')
    counted = axes.xaxis if len(found.classes) <= NAMED else axes.yaxis
    counted.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(found.classes) <= NAMED:
        axes.barh(range(len(found.counts)), found.counts, color=_colours(len(found.counts)) / 255)
        axes.set_yticks(range(len(found.counts)), [_short(name) for name in found.classes])
        axes.invert_yaxis()
    else:
        axes.bar(range(len(found.counts)), found.counts, width=1.0)
        axes.set_xlabel(f'number of the class, of {len(found.classes)}')


def _draw_sizes(axes: Axes, found: SplitReport) -> None:
    sizes, counts = np.unique(np.array(found.sizes()), axis=0, return_counts=True)
    axes.set_title(f'sizes: {_range(sizes[:, 0])} x {_range(sizes[:, 1])} pixels')
    axes.scatter(sizes[:, 0], sizes[:, 1], s=20 + 200 * counts / counts.sum(), alpha=0.5)
    axes.set(xlabel='width', ylabel='height')


def _range(values: NDArray) -> str:
    low, high = values.min(), values.max()
    return str(low) if low == high else f'{low}..{high}'


def _draw_legend(axes: Axes, found: SplitReport) -> None:
    axes.set_axis_off()
    kinds = '\n'.join(f'{number} {kind}' for kind, number in found.kinds().most_common(8))
    axes.text(0, 1, kinds, va='top')
    if found.segments and len(found.classes) <= NAMED:
        colours = _colours(len(found.classes)) / 255
        named = zip(colours, found.classes, strict=True)
        patches = [Patch(color=colour, label=_short(name)) for colour, name in named]
        axes.legend(handles=patches, loc='upper right', fontsize='small')


def _draw_sample(axes: Axes, found: SplitReport, number: int) -> None:
    leaf, index = found.members[number]
    results = load(leaf, index)
    assert results is not None
    picture = _picture(results['img'], loaders_of(leaf))
    sample = found.samples[number]
    title = ', '.join(found.classes[label] for label in sample.labels)
    mask = results.get('gt_seg_map')
    if mask is not None:
        mask = cv2.resize(mask, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        known = mask < len(found.classes)
        over = _colours(len(found.classes))[np.where(known, mask, 0)]
        blend = (0.45 * picture + 0.55 * over).astype(np.uint8)
        picture = np.where(known[..., None], blend, picture)
    axes.imshow(picture)
    width, height = sample.size or (0, 0)
    axes.set_title(f'{_short(title)}\n{width} x {height}'.strip(), fontsize='small')


def _picture(image: NDArray, loaders: Sequence[Any]) -> NDArray:
    """A small RGB picture of a loaded image."""
    bands = next((step for step in loaders if isinstance(step, LoadBandsFromFile)), None)
    if bands is not None:
        rgb = bands.to_rgb(image)
    else:
        plain = image if image.ndim == 3 else image[..., None]
        plain = plain[..., :3][..., ::-1] if plain.shape[2] >= 3 else plain[..., [0, 0, 0]]
        if plain.dtype != np.uint8:
            plain = 255.0 * plain / max(float(plain.max()), 255.0)
        rgb = plain.astype(np.uint8)
    scale = SIDE / max(rgb.shape[:2])
    size = [max(1, round(side * scale)) for side in rgb.shape[1::-1]]
    return cv2.resize(np.ascontiguousarray(rgb), size, interpolation=cv2.INTER_AREA)


def _colours(number: int) -> NDArray[np.float64]:
    """Colours of classes, RGB up to 255, ``(number, 3)``."""
    table = matplotlib.colormaps['tab20'](np.arange(number) % 20)
    return 255 * np.asarray(table)[:, :3]


def _short(text: str) -> str:
    return textwrap.shorten(text, 28, placeholder=' ...')
