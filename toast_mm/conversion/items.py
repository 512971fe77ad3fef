"""What all formats of annotations are read into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.int64]  # numbers of classes, (H, W)

EMPTY = -1  # on a canvas: no annotation yet


class ConversionError(ValueError):
    """Annotations cannot be converted; the message says where and why."""


class Layer(Protocol):
    """Something that is painted over a mask."""

    def labels(self) -> Iterable[str]:
        """Labels that it paints."""

    def paint(self, canvas: Canvas, numbers: Mapping[str, int]) -> Painted:
        """Paint the numbers of its labels. Labels without a number are left out."""


@dataclass
class Painted:
    """What happened when a layer was painted.

    Attributes:
        outside: Whether a part of it lies outside the image.
        nothing: Whether it covers no pixel.
        covered: Number of pixels of other classes that it replaced.
    """

    outside: bool = False
    nothing: bool = False
    covered: int = 0


@dataclass
class Item:
    """An image and what is annotated in it.

    Attributes:
        image: The file.
        name: Path of the output without suffix, below the folder of its split.
        source: The annotation, as messages name it.
        size: Width and height that the annotation states, or None.
        layers: What is painted on its mask, in this order.
        label: Class of the whole image, or None.
        split: ``'train'``, ``'val'`` or ``'test'`` if the annotation says so, or None.
    """

    image: Path
    name: str
    source: str
    size: tuple[int, int] | None = None
    layers: list[Layer] = field(default_factory=list)
    label: str | None = None
    split: str | None = None

    def labels(self) -> set[str]:
        """All labels of the item."""
        found = {label for layer in self.layers for label in layer.labels()}
        return found | ({self.label} if self.label is not None else set())


@dataclass
class Skipped:
    """Something that is left out: a file, or a part of one, and why."""

    what: str
    why: str


@dataclass
class Annotations:
    """All that a reader found.

    Attributes:
        items: Images with their annotations.
        classes: Names of classes in the order of the format, if it has one.
        colours: RGB of classes, by name.
        skipped: What was left out.
    """

    items: list[Item] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    colours: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)

    def skip(self, what: object, why: str) -> None:
        """Leave something out."""
        self.skipped.append(Skipped(str(what), why))


def relative_name(path: Path, folder: Path) -> str:
    """Path of a file below a folder, without its suffix; its name alone if it is elsewhere."""
    inside = path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)
    return inside.with_suffix('').as_posix()
