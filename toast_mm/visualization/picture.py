"""A picture with samples as rows: image, truth, prediction, mask and attention maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from toast_mm.files import atomic_write

Palette = Sequence[Sequence[int]]
SIDE = 1.6  # side of a panel, in inches


@dataclass
class Row:
    """One sample.

    Attributes:
        image: RGB ``(H, W, 3)``, from 0 to 255.
        mask: Selection mask ``(h, w)``.
        first: Attention, or energy of the features, in the first pass ``(h, w)``.
        second: The same in the second pass.
        caption: Truth and prediction of a classified image.
        labels: Truth and prediction of a segmented image, each ``(H, W)``.
        what: What the maps of both passes show, for their titles.
    """

    image: NDArray
    mask: NDArray
    first: NDArray
    second: NDArray
    caption: str = ''
    labels: tuple[NDArray, NDArray] | None = None
    what: str = 'attention'


def draw_picture(
    rows: Sequence[Row], path: str, classes: Sequence[str] = (), palette: Palette = ()
) -> None:
    """Write a picture of some samples.

    Both passes of a row share one scale, so that brightness can be compared.

    Args:
        rows: Samples, all classified or all segmented.
        path: PNG file.
        classes: Names of the classes of segmented images.
        palette: Their colours, RGB from 0 to 255.

    Raises:
        WriteError: The file cannot be written.
    """
    what = rows[0].what
    titles = ['image', 'selection mask', f'{what}, first pass', f'{what}, second pass']
    if rows[0].labels:
        titles[1:1] = ['truth', 'prediction']
    size = (SIDE * len(titles), SIDE * 1.15 * len(rows) + 0.6)
    figure = Figure(figsize=size, layout='constrained')
    panels = figure.subplots(len(rows), len(titles), squeeze=False)
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title, fontsize=9)
    for row, (left, *middle, mask, first, second) in zip(rows, panels, strict=True):
        left.imshow(row.image)
        left.set_xlabel(row.caption, fontsize=8)
        for axes, labels in zip(middle, row.labels or (), strict=True):
            axes.imshow(_in_colours(labels, palette))
        brightest = max(row.first.max(), row.second.max())
        _overlay(mask, row.image, row.mask, 1.0)
        _overlay(first, row.image, row.first, brightest)
        _overlay(second, row.image, row.second, brightest)
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
    present = sorted({int(n) for row in rows if row.labels for n in np.unique(row.labels[0])})
    entries = [
        Patch(color='#{:02x}{:02x}{:02x}'.format(*palette[n]), label=classes[n])
        for n in present
        if n < len(classes)
    ]
    if entries:
        figure.legend(handles=entries, loc='outside lower center', ncols=len(titles), fontsize=8)
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=120)


def _in_colours(labels: NDArray, palette: Palette) -> NDArray:
    """Paint labels in the colours of their classes; labels without a class are white."""
    colours = np.full((256, 3), 255, np.uint8)
    colours[: len(palette)] = palette
    return colours[labels]


def _overlay(axes: Axes, image: NDArray, weights: NDArray, brightest: float) -> None:
    """Draw a coloured map over the gray image."""
    height, width = image.shape[:2]
    axes.imshow(image.mean(axis=-1), cmap='gray', vmin=0, vmax=255)
    axes.imshow(
        weights,
        cmap='inferno',
        alpha=0.65,
        vmin=0,
        vmax=brightest,
        interpolation='bilinear',
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )
