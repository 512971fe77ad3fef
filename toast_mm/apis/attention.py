"""Where a model looks in one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from toast_mm.apis.results import Result
from toast_mm.visualization import AttentionMaps, Row, View, draw_picture

PASSES = ('first', 'second', 'mask')


@dataclass(repr=False, eq=False)
class Attention(Result):
    """Attention maps of an image, which is shown as the model sees it: resized and cropped.

    Attributes:
        maps: :class:`AttentionMaps` of every block that was asked for, of a batch of one image:
            ``mask (1, h, w)``, ``first`` and ``second`` ``(1, heads, h, w)``.
        method: Name of the method.
        covered: Height and width of what the maps cover, as multiples of the image's.

    Example:
        >>> found = predictor.attention('bird.jpg', blocks=[-2, -1])[0]
        >>> found.show()
        >>> found.figure(heads=True).savefig('heads.png')
        >>> found.maps[11].difference.shape
        torch.Size([1, 12, 14, 14])
    """

    maps: Mapping[int, AttentionMaps]
    method: str
    covered: tuple[float, ...] = (1.0, 1.0)

    def figure(self, heads: bool = False) -> Figure:
        """Draw the selection mask, the attention of both passes and their difference.

        Args:
            heads: Whether every head has a line; otherwise their mean. Defaults to False.
        """
        maps = self.maps if heads else {n: found.mean() for n, found in self.maps.items()}
        view = View(self.method, self.image, maps, covered=self.covered)
        return draw_picture([Row([view])], difference=True)

    def overlay(self, block: int | None = None, which: str | None = None) -> NDArray[np.uint8]:
        """The gray image under the colours of a map, averaged over the heads, ``(H, W, 3)``.

        Args:
            block: Number of the block. Defaults to None, the last one that was asked for.
            which: ``'first'`` or ``'second'`` pass, or the ``'mask'``. Defaults to None, the second
                pass if there is one.

        Raises:
            KeyError: The block was not asked for.
            ValueError: There is no such map.
        """
        if block is not None and block not in self.maps:
            raise KeyError(f'there are no maps of block {block}; there are: {list(self.maps)}')
        maps = self.maps[[*self.maps][-1] if block is None else block].mean()
        if which is None:
            which = 'first' if maps.second is None else 'second'
        found = getattr(maps, which) if which in PASSES else None
        if found is None:
            there = [name for name in PASSES if getattr(maps, name) is not None]
            raise ValueError(f'which={which!r}: there is no such map; there are: {there}')
        weights = found.flatten(0, -3)[0].float().cpu().numpy()
        brightest = 1.0 if which == 'mask' else weights.max() or 1.0
        height, width = self.image.shape[:2]
        size = (round(width * self.covered[1]), round(height * self.covered[0]))
        weights = cv2.resize(weights / brightest, size)[:height, :width]
        colours = 255 * colormaps['inferno'](weights)[..., :3]
        gray = self.image.mean(axis=-1, keepdims=True)
        return (0.6 * colours + 0.4 * gray).round().clip(0, 255).astype(np.uint8)

    def thumbnail(self) -> NDArray[np.uint8]:
        """The overlay."""
        return self.overlay()

    def describe(self) -> str:
        """Method and blocks."""
        return f'{self.method}, block {", ".join(map(str, self.maps))}'


def on_cpu(maps: AttentionMaps) -> AttentionMaps:
    """Maps that take no memory of a GPU."""
    mask, first, second = (
        None if found is None else found.cpu() for found in (maps.mask, maps.first, maps.second)
    )
    return AttentionMaps(mask, first, second, maps.what)
