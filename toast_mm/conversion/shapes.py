"""Shapes in an image. A pixel belongs to a shape if its centre does.

So shapes with a common edge neither overlap nor leave a gap. The polygons of Pillow and OpenCV also
cover pixels that an edge only touches.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from toast_mm.conversion.items import EMPTY, Canvas, ConversionError, Painted

Point = tuple[float, float]
BEYOND = 10  # sizes of the image; coordinates further outside are no pixels of it


class Shape(Protocol):
    """A part of an image. Coordinates are pixels from the upper left corner of the image."""

    def fill(self, height: int, width: int) -> NDArray[np.bool_]:
        """Its pixels in an image, ``(H, W)``."""

    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom."""


@dataclass
class Polygon:
    """Polygons. Where the edges of a ring cross, its parts are inside and outside in turn.

    Args:
        rings: Points of each ring. Together they cover what any of them covers.
        holes: Whether a ring inside another one is a hole instead.

    Example:
        >>> Polygon([[(1, 0), (3, 0), (3, 2), (1, 2)]]).fill(2, 4).astype(int)
        array([[0, 1, 1, 0],
               [0, 1, 1, 0]])
    """

    rings: Sequence[Sequence[Point]]
    holes: bool = False

    def __post_init__(self) -> None:
        self.rings = [[(float(x), float(y)) for x, y in ring] for ring in self.rings]
        for ring in self.rings:
            if len(ring) < 3:
                raise ConversionError(f'a polygon of {len(ring)} points has no area')
            if not np.isfinite(ring).all():
                raise ConversionError('a polygon has points that are infinite or no numbers')

    def fill(self, height: int, width: int) -> NDArray[np.bool_]:
        """Its pixels in an image, ``(H, W)``."""
        unite = np.logical_xor if self.holes else np.logical_or
        filled = np.zeros((height, width), bool)
        for ring in self.rings:
            unite(filled, _inside(ring, height, width), out=filled)
        return filled

    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom."""
        xs, ys = zip(*(point for ring in self.rings for point in ring), strict=True)
        return min(xs), min(ys), max(xs), max(ys)


def _inside(ring: Sequence[Point], height: int, width: int) -> NDArray[np.bool_]:
    """Pixels inside a ring: every edge that is crossed from the left changes the side."""
    crossings = np.zeros((height, width + 1), bool)
    points = np.asarray(ring, float)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, 0), strict=True):
        first, last = np.ceil(np.clip(sorted((y0, y1)), 0, height) - 0.5).astype(int)
        rows = np.arange(first, last)  # whose centres are between the ends of the edge
        if rows.size:
            xs = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            columns = np.ceil(np.clip(xs - 0.5, 0, width)).astype(int)
            crossings[rows, columns] ^= True
    return np.logical_xor.accumulate(crossings[:, :-1], 1)


def rectangle(left: float, top: float, right: float, bottom: float) -> Polygon:
    """Rectangle between two corners, in any order."""
    return Polygon([[(left, top), (right, top), (right, bottom), (left, bottom)]])


def turned(points: Iterable[Point], about: Point, degrees: float) -> list[Point]:
    """Points after a rotation, clockwise in the image."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x0, y0 = about
    return [
        (x0 + cos * (x - x0) - sin * (y - y0), y0 + sin * (x - x0) + cos * (y - y0))
        for x, y in points
    ]


@dataclass
class Ellipse:
    """Ellipse.

    Args:
        x: Horizontal coordinate of the centre.
        y: Vertical coordinate of the centre.
        rx: Horizontal radius.
        ry: Vertical radius.
        degrees: Clockwise rotation about the centre. Defaults to 0.
    """

    x: float
    y: float
    rx: float
    ry: float
    degrees: float = 0

    def __post_init__(self) -> None:
        if not np.isfinite([self.x, self.y, self.rx, self.ry, self.degrees]).all():
            raise ConversionError('an ellipse has values that are infinite or no numbers')
        if not (self.rx > 0 and self.ry > 0):
            raise ConversionError(f'an ellipse with radii {self.rx} and {self.ry} has no area')

    def fill(self, height: int, width: int) -> NDArray[np.bool_]:
        """Its pixels in an image, ``(H, W)``."""
        ys, xs = np.arange(height)[:, None] + 0.5, np.arange(width) + 0.5
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        across = cos * (xs - self.x) + sin * (ys - self.y)
        along = cos * (ys - self.y) - sin * (xs - self.x)
        return (across / self.rx) ** 2 + (along / self.ry) ** 2 <= 1

    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom."""
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        half_width = math.hypot(self.rx * cos, self.ry * sin)
        half_height = math.hypot(self.rx * sin, self.ry * cos)
        return self.x - half_width, self.y - half_height, self.x + half_width, self.y + half_height


@dataclass
class Bitmap:
    """Pixels of any form.

    Args:
        pixels: Which pixels belong to it, ``(h, w)``.
        left: Column of its first pixel in the image. Defaults to 0.
        top: Row of its first pixel in the image. Defaults to 0.
    """

    pixels: NDArray[np.bool_]
    left: int = 0
    top: int = 0

    def fill(self, height: int, width: int) -> NDArray[np.bool_]:
        """Its pixels in an image, ``(H, W)``."""
        filled = np.zeros((height, width), bool)
        x0, y0 = max(self.left, 0), max(self.top, 0)
        part = self.pixels[y0 - self.top : height - self.top, x0 - self.left : width - self.left]
        filled[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]] = part
        return filled

    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom."""
        height, width = self.pixels.shape
        return self.left, self.top, self.left + width, self.top + height


def from_runs(runs: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """Pixels of a run-length encoding: numbers of pixels outside and inside in turn, by rows.

    Raises:
        ConversionError: The runs do not make up the size.
    """
    counts = np.asarray(runs, np.int64)
    if (counts < 0).any() or counts.sum() != height * width:
        raise ConversionError(
            f'its runs make up {counts.sum()} pixels, but {width} x {height} are {height * width}'
        )
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)


@dataclass
class Region:
    """A shape with a label: a layer of a mask."""

    label: str
    shape: Shape

    def labels(self) -> tuple[str]:
        """Its label."""
        return (self.label,)

    def paint(self, canvas: Canvas, numbers: Mapping[str, int]) -> Painted:
        """Paint the number of its label, over what is there."""
        height, width = canvas.shape
        left, top, right, bottom = self.shape.box()
        limit = BEYOND * max(height, width)
        if not all(abs(value) <= limit for value in (left, top, right, bottom)):
            raise ConversionError(
                f'{self.label!r} reaches from ({left:g}, {top:g}) to ({right:g}, {bottom:g}), '
                f'which are no pixels of an image of {width} x {height}'
            )
        filled = self.shape.fill(height, width)
        if self.label not in numbers:
            return Painted()
        number = numbers[self.label]
        before = canvas[filled]
        canvas[filled] = number
        return Painted(
            outside=left < 0 or top < 0 or right > width or bottom > height,
            nothing=not filled.any(),
            covered=int(((before != EMPTY) & (before != number)).sum()),
        )
