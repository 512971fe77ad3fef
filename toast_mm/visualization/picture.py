"""A picture of what models look at: images, truth, predictions, masks and attention maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor

from toast_mm.files import atomic_write

from .attention import AttentionMaps

Palette = Sequence[Sequence[int]]
SIDE = 1.6  # width of a panel, in inches
TALLEST = 2  # height of a panel, as a multiple of its width
TEXT = 0.2  # height of a line of text, in inches
MOST_LINES = 100


@dataclass
class View:
    """What one model makes of one image.

    Attributes:
        method: Name of the model.
        image: The image that it sees: RGB ``(H, W, 3)``, from 0 to 255.
        maps: Its maps by block, of a batch of this image. Every head has a line in the picture;
            ``AttentionMaps.mean`` leaves one.
        caption: The prediction, of a classified image.
        labels: The prediction ``(H, W)``, of a segmented image.
        covered: Height and width of what the maps cover, as multiples of the image's: above 1 if
            the model pads images at the bottom or on the right.
    """

    method: str
    image: NDArray
    maps: Mapping[int, AttentionMaps]
    caption: str = ''
    labels: NDArray | None = None
    covered: tuple[float, ...] = (1.0, 1.0)


@dataclass
class Row:
    """One image, and what models make of it.

    Attributes:
        views: One per model, each with maps of as many blocks. The first shows the image.
        caption: The truth, of a classified image.
        truth: The truth ``(H, W)``, of a segmented image.
    """

    views: Sequence[View]
    caption: str = ''
    truth: NDArray | None = None


class Panel(NamedTuple):
    """A part of a line: what to draw, with a title above the column and a caption below.

    One that is drawn ``once`` is the same for all blocks and heads.
    """

    title: str
    draw: Callable[[Axes], object] | None
    caption: str = ''
    once: bool = False


def draw_picture(
    rows: Sequence[Row],
    classes: Sequence[str] = (),
    palette: Palette = (),
    difference: bool = False,
) -> Figure:
    """Draw some images, with the same models for each.

    An image has a line for every block and head. Both passes of a model share one scale in a line,
    so that brightness can be compared.

    Args:
        rows: The images, all classified or all segmented.
        classes: Names of the classes of segmented images.
        palette: Their colours, RGB from 0 to 255.
        difference: Whether to draw what the second pass adds to the first: red is more, blue is
            less. Defaults to False.

    Raises:
        ValueError: Images, blocks and heads make too many lines.
    """
    shapes, lines = [], []
    for row in rows:
        height, width = row.views[0].image.shape[:2]
        of_row = [*_lines(row, palette, difference)]
        shapes += [min(height / width, TALLEST)] * len(of_row)
        lines += of_row
    if len(lines) > MOST_LINES:
        raise ValueError(
            f'a picture of {len(lines)} lines cannot be read, only up to {MOST_LINES}: draw fewer '
            'images, blocks or heads'
        )
    width = len(lines[0][1])
    entries = _legend(rows, classes, palette)
    titles = [panel.title.count('\n') + 1 for panel in lines[0][1]]
    texts = max(titles) + 1.3 * math.ceil(len(entries) / width)
    heights = [
        SIDE * shape + TEXT * any(panel.caption for panel in panels)
        for shape, (_, panels) in zip(shapes, lines, strict=True)
    ]
    size = (SIDE * width, sum(heights) + TEXT * texts)
    figure = Figure(figsize=size, layout='constrained')
    grid = figure.subplots(len(lines), width, squeeze=False, height_ratios=heights)
    for axes, panel in zip(grid[0], lines[0][1], strict=True):
        axes.set_title(panel.title, fontsize=9)
    for cells, (label, panels) in zip(grid, lines, strict=True):
        cells[0].set_ylabel(label, fontsize=8)
        for axes, panel in zip(cells, panels, strict=True):
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(panel.caption, fontsize=8)
            if panel.draw is None:
                axes.spines[:].set_visible(False)
            else:
                panel.draw(axes)
    if entries:
        figure.legend(handles=entries, loc='outside lower center', ncols=width, fontsize=8)
    return figure


def save_picture(figure: Figure, path: str) -> None:
    """Write a picture to a PNG file.

    Raises:
        WriteError: The file cannot be written.
    """
    with atomic_write(path) as partial_file:
        figure.savefig(partial_file, dpi=120)


def as_image(figure: Figure) -> NDArray:
    """A picture as an RGB image ``(H, W, 3)``."""
    figure.set_dpi(120)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def _lines(row: Row, palette: Palette, difference: bool) -> Iterator[tuple[str, list[Panel]]]:
    """Label and panels of every line of an image."""
    shared = [Panel('image', partial(_show, image=row.views[0].image), row.caption, once=True)]
    if row.truth is not None:
        truth = _in_colours(row.truth, palette)
        shared.append(Panel('truth', partial(_show, image=truth), once=True))
    for number, (block, first) in enumerate(row.views[0].maps.items()):
        maps = [list(view.maps.values())[number] for view in row.views]
        heads = max(map(_heads, maps))
        for head in range(heads):
            panels = [*shared]
            for name, view, of_block in zip(_names(row.views), row.views, maps, strict=True):
                own = _panels(view, of_block, head, palette, difference)
                panels += [panel._replace(title=name + panel.title) for panel in own]
            if number or head:
                panels = [
                    p._replace(draw=p.draw if not p.once else None, caption='') for p in panels
                ]
            kind = 'block' if first.what == 'attention' else 'stage'
            label = [f'{kind} {block}'] if len(row.views[0].maps) > 1 else []
            yield '\n'.join([*label, *([f'head {head}'] if heads > 1 else [])]), panels


def _panels(
    view: View,
    maps: AttentionMaps,
    head: int,
    palette: Palette,
    difference: bool,
) -> Iterator[Panel]:
    """What a model shows of one block and head. A map of a pass without this block is missing."""
    first, second = (_of_head(found, head) for found in (maps.first, maps.second))
    brightest = max((found.max() for found in (first, second) if found is not None), default=1)
    caption = view.caption
    if view.labels is not None:
        prediction = _in_colours(view.labels, palette)
        yield Panel('prediction', partial(_show, image=prediction), once=True)
    overlay = partial(_overlay, view.image, view.covered)
    if maps.mask is None:
        yield Panel(maps.what, overlay(first, brightest), caption)
        return
    mask = maps.mask[0].float().cpu().numpy()
    yield Panel('selection mask', overlay(mask, 1), caption, once=True)
    yield Panel(f'{maps.what}, first pass', overlay(first, brightest))
    yield Panel(f'{maps.what}, second pass', overlay(second, brightest))
    if difference:
        change = _of_head(maps.difference, head)
        largest = 1 if change is None else abs(change).max() or 1
        yield Panel('difference', overlay(change, largest, -largest, 'bwr'))


def _names(views: Sequence[View]) -> list[str]:
    """Lines above the titles of several models: their methods, numbered where these are equal."""
    methods = [view.method for view in views]
    names = [
        f'{name} ({methods[:number].count(name) + 1})' if methods.count(name) > 1 else name
        for number, name in enumerate(methods)
    ]
    return [f'{name}\n' for name in names] if len(views) > 1 else ['']


def _heads(maps: AttentionMaps) -> int:
    return max(found.shape[1] for found in (maps.first, maps.second) if found is not None)


def _of_head(maps: Tensor | None, head: int) -> NDArray | None:
    """The map ``(h, w)`` of a head, if there is one."""
    return None if maps is None or head >= maps.shape[1] else maps[0, head].float().cpu().numpy()


def _legend(rows: Sequence[Row], classes: Sequence[str], palette: Palette) -> list[Patch]:
    """Colours of the classes in the truth; without one, in the predictions."""
    shown = [
        labels
        for row in rows
        for labels in ([row.truth] if row.truth is not None else [v.labels for v in row.views])
        if labels is not None
    ]
    present = sorted({int(n) for labels in shown for n in np.unique(labels)})
    return [
        Patch(color='#{:02x}{:02x}{:02x}'.format(*palette[n]), label=classes[n])
        for n in present
        if n < len(classes)
    ]


def _in_colours(labels: NDArray, palette: Palette) -> NDArray:
    """Paint labels in the colours of their classes; labels without a class are white."""
    colours = np.full((256, 3), 255, np.uint8)
    colours[: len(palette)] = palette
    return colours[labels]


def _show(axes: Axes, image: NDArray) -> None:
    axes.imshow(image)


def _overlay(
    image: NDArray,
    covered: Sequence[float],
    weights: NDArray | None,
    highest: float,
    lowest: float = 0,
    colours: str = 'inferno',
) -> Callable[[Axes], None] | None:
    """Draw a coloured map over the gray image; None without a map."""
    if weights is None:
        return None
    height, width = image.shape[:2]
    bottom, right = height * covered[0] - 0.5, width * covered[1] - 0.5

    def draw(axes: Axes) -> None:
        axes.imshow(image.mean(axis=-1), cmap='gray', vmin=0, vmax=255)
        axes.imshow(
            weights,
            cmap=colours,
            alpha=0.65,
            vmin=lowest,
            vmax=highest,
            interpolation='bilinear',
            extent=(-0.5, right, bottom, -0.5),
        )
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))

    return draw
