"""What a prediction of one image is, and how it looks in a terminal, a notebook and a file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer
from numpy.typing import NDArray
from PIL import Image

from toast_mm.files import WriteError, atomic_write, make_folder
from toast_mm.outputs import check_free

INCHES = 4.0  # longer side of the image in a figure


@dataclass(repr=False, eq=False)
class Result:
    """What was found in one image.

    Attributes:
        image: The image: RGB ``(H, W, 3)`` of ``uint8``. Of many bands, those that are shown.
        path: Its file, or None for an array or a PIL image.
    """

    image: NDArray[np.uint8]
    path: str | None

    @property
    def name(self) -> str:
        """Name of the file without its folder, or ``'image'``."""
        return Path(self.path).name if self.path else 'image'

    def figure(self) -> Figure:
        """The result as a figure of matplotlib."""
        raise NotImplementedError

    def describe(self) -> str:
        """The result in a few words."""
        raise NotImplementedError

    def overlay(self) -> NDArray[np.uint8]:
        """The image with the result drawn over it: RGB ``(H, W, 3)``."""
        raise NotImplementedError

    def thumbnail(self) -> NDArray[np.uint8]:
        """What a list of results shows of it: RGB ``(H, W, 3)``."""
        return self.image

    def show(self) -> None:
        """Show the result in the notebook, or in a window of matplotlib."""
        import matplotlib.pyplot as plt  # here, since it chooses a backend

        drawn = self.figure()
        pixels = plt.imread(io.BytesIO(self._repr_png_()))
        figure = plt.figure(figsize=drawn.get_size_inches(), dpi=drawn.dpi)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.imshow(pixels, aspect='auto')
        axes.axis('off')
        plt.show()
        plt.close(figure)

    def save(self, path: str | Path) -> None:
        """Write what :meth:`show` shows. The suffix says the format, such as ``.png``.

        An older file is replaced, but never the image itself. The folder is made if it is missing.

        Raises:
            WriteError: The suffix says no format, or the file cannot be written.
        """
        figure, form = self.figure(), Path(path).suffix[1:].lower()
        if form not in (known := figure.canvas.get_supported_filetypes()):
            raise WriteError(f'{path} must end in one of .{", .".join(sorted(known))}')
        self._check_free(path)
        with atomic_write(str(path)) as partial:
            figure.savefig(partial, format=form)

    def _check_free(self, path: str | Path) -> None:
        """Check that a file would not replace the image, and make its folder."""
        read = [self.path] if self.path else []
        check_free([path], read, overwrite=True, new_folders=True)
        make_folder(Path(path).parent)

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.figure().savefig(content, format='png')
        return content.getvalue()

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.name}: {self.describe()})'

    def _picture(self, image: NDArray) -> tuple[Figure, Axes]:
        """A figure with an image, and its axes."""
        height, width = image.shape[:2]
        scale = INCHES / max(height, width)
        size = max(scale * width, INCHES / 2), scale * height + 0.8  # and some lines of text
        figure = Figure(figsize=size, layout='tight')
        axes = figure.subplots()
        axes.imshow(image)
        axes.set(xticks=[], yticks=[])
        return figure, axes


@dataclass(repr=False, eq=False)
class Classification(Result):
    """Class of an image.

    Attributes:
        scores: Score of every class ``(C,)``; of most heads, probabilities.
        classes: Names of the classes.

    Example:
        >>> result.label, result.score
        ('sparrow', 0.93)
        >>> result.top(2)
        [('sparrow', 0.93), ('finch', 0.05)]
    """

    scores: NDArray[np.float32]
    classes: Sequence[str]

    @property
    def index(self) -> int:
        """Number of the class with the highest score."""
        return int(self.scores.argmax())

    @property
    def label(self) -> str:
        """Name of the class with the highest score."""
        return self.classes[self.index]

    @property
    def score(self) -> float:
        """The highest score."""
        return float(self.scores.max())

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """Names and scores of the ``k`` best classes, best first.

        Raises:
            ValueError: ``k`` is below 1.
        """
        if k < 1:
            raise ValueError(f'top(k={k}): k must be at least 1')
        best = np.argsort(-self.scores, kind='stable')[:k]
        return [(self.classes[n], float(self.scores[n])) for n in best]

    def overlay(self) -> NDArray[np.uint8]:
        """The image with class and score written on it, ``(H, W, 3)``."""
        sample = DataSample().set_pred_score(torch.from_numpy(self.scores))
        sample.set_pred_label(self.index)
        return UniversalVisualizer().visualize_cls(self.image, sample, self.classes, draw_gt=False)

    def figure(self) -> Figure:
        """The image with the best classes."""
        figure, axes = self._picture(self.image)
        axes.set_title(plain(f'{self.label} {self.score:.1%}'))
        others = [f'{label} {score:.1%}' for label, score in self.top(4)[1:]]
        axes.set_xlabel(plain('\n'.join(others)), fontsize=8)
        return figure

    def describe(self) -> str:
        """The class in a few words."""
        return f'{self.label!r} {self.score:.1%}'


@dataclass(repr=False, eq=False)
class Segmentation(Result):
    """Class of every pixel.

    Attributes:
        labels: Number of the class of every pixel ``(H, W)``.
        classes: Names of the classes.
        palette: Their colours: RGB, from 0 to 255.

    Example:
        >>> result.areas
        {'road': 0.41, 'sky': 0.32, 'tree': 0.27}
        >>> result.save('street.png')
        >>> result.save_mask('street_mask.png')
    """

    labels: NDArray[np.integer]
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]

    @cached_property
    def areas(self) -> dict[str, float]:
        """Share of the image of every class that occurs, largest first."""
        numbers, pixels = np.unique(self.labels, return_counts=True)
        order = np.argsort(-pixels, kind='stable')
        return {self.classes[numbers[n]]: float(pixels[n] / self.labels.size) for n in order}

    def overlay(self, opacity: float = 0.6) -> NDArray[np.uint8]:
        """The image under the colours of the classes, ``(H, W, 3)``.

        Args:
            opacity: 0 is the image alone, 1 the colours alone. Defaults to 0.6.
        """
        colours = np.asarray(self.palette, np.float32)[self.labels]
        blended = opacity * colours + (1 - opacity) * self.image
        return blended.round().clip(0, 255).astype(np.uint8)

    def mask(self) -> Image.Image:
        """The labels as a PIL image that shows the colours of the palette.

        Of more than 256 classes it is gray, of 16 bits.
        """
        if len(self.classes) > 256:
            return Image.fromarray(self.labels.astype(np.uint16))
        mask = Image.fromarray(self.labels.astype(np.uint8), 'P')
        mask.putpalette(np.asarray(self.palette, np.uint8).tobytes())
        return mask

    def save_mask(self, path: str | Path) -> None:
        """Write the mask as a PNG file whose pixels are the labels.

        Raises:
            WriteError: The name does not end in ``.png``, or the file cannot be written.
        """
        if Path(path).suffix.lower() != '.png':
            raise WriteError(f'{path} must end in .png: other formats would change the labels')
        self._check_free(path)
        with atomic_write(str(path)) as partial:
            self.mask().save(partial, format='png')

    def figure(self) -> Figure:
        """The overlay with a legend of the classes that occur."""
        figure, axes = self._picture(self.overlay())
        colours = dict(zip(self.classes, self.palette, strict=True))
        handles = [
            Patch(color='#{:02x}{:02x}{:02x}'.format(*colours[name]), label=plain(name))
            for name in [*self.areas][:12]
        ]
        axes.legend(
            handles=handles, loc='upper center', bbox_to_anchor=(0.5, 0), ncols=3, fontsize=8
        )
        return figure

    def thumbnail(self) -> NDArray[np.uint8]:
        """The overlay."""
        return self.overlay()

    def describe(self) -> str:
        """The largest classes in a few words."""
        return ', '.join(f'{name!r} {share:.0%}' for name, share in [*self.areas.items()][:3])


def plain(text: str) -> str:
    """Text as it is: matplotlib takes what is between dollar signs for mathematics."""
    return text.replace('$', r'\$')
