"""Results of several images."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TypeVar

from PIL import Image

from toast_mm.apis.results import Result, Segmentation
from toast_mm.files import make_folder
from toast_mm.outputs import check_free

Some = TypeVar('Some', bound=Result)
SHOWN = 24  # results that a notebook or terminal shows
SIDE = 128  # of their pictures


class Results(list[Some]):
    """A list of results. A notebook shows the first of them as pictures.

    Example:
        >>> results = predictor.predict('photos')
        >>> results.save('predicted')
        >>> [result.path for result in results if result.score < 0.5]
    """

    def show(self) -> None:
        """Show all of them, one after another."""
        for result in self:
            result.show()

    def save(self, folder: str | Path) -> list[Path]:
        """Write a picture of every result into a folder, and the mask of a segmentation.

        A picture has the name of its image and the suffix ``.png``, a mask ``_mask.png``. If names
        repeat, all begin with the number of the result. Older files are replaced, but none of the
        images.

        Returns:
            The pictures.

        Raises:
            WriteError: A file would replace an image, and none is written; or it cannot be written.
        """
        names = self._names()
        pictures = [Path(folder, f'{name}.png') for name in names]
        masks = {
            number: Path(folder, f'{names[number]}_mask.png')
            for number, result in enumerate(self)
            if isinstance(result, Segmentation)
        }
        read = [result.path for result in self if result.path]
        check_free([*pictures, *masks.values()], read, overwrite=True, new_folders=True)
        make_folder(folder)
        for number, (result, picture) in enumerate(zip(self, pictures, strict=True)):
            result.save(picture)
            if isinstance(result, Segmentation):
                result.save_mask(masks[number])
        return pictures

    def _names(self) -> list[str]:
        names = [Path(result.name).stem for result in self]
        segmented = [isinstance(result, Segmentation) for result in self]
        taken = names + [f'{n}_mask' for n, masked in zip(names, segmented, strict=True) if masked]
        if len({*taken}) == len(taken):
            return names
        digits = len(str(len(names)))
        return [f'{number:0{digits}}_{name}' for number, name in enumerate(names)]

    def __repr__(self) -> str:
        lines = [f'  {result!r},' for result in self[:SHOWN]]
        more = [f'  and {len(self) - SHOWN} more'] if len(self) > SHOWN else []
        return '\n'.join(['[', *lines, *more, ']']) if self else '[]'

    def _repr_html_(self) -> str:
        more = f'<p>and {len(self) - SHOWN} more</p>' if len(self) > SHOWN else ''
        return (
            f'<div style="display:flex;flex-wrap:wrap;gap:8px">{"".join(self._cells())}</div>'
            + more
        )

    def _cells(self) -> Iterator[str]:
        for result in self[:SHOWN]:
            picture = Image.fromarray(result.thumbnail())
            picture.thumbnail((SIDE, SIDE))
            content = io.BytesIO()
            picture.save(content, 'png')
            source = f'data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}'
            yield (
                f'<figure style="margin:0;width:{SIDE}px"><img src="{source}">'
                f'<figcaption style="font-size:smaller;overflow-wrap:anywhere">'
                f'{escape(result.name)}<br>{escape(result.describe())}</figcaption></figure>'
            )
