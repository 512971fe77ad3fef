"""What the page shows of a picture and a task file."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toast_mm.apis import Attention, Predictor, Segmentation
from toast_mm.apis.results import Result
from toast_mm.files import atomic_write
from toast_mm.visualization import as_image, running_blocks

SIDE = 1024  # longer side of the pictures that the page shows; files keep all pixels


@dataclass
class Answer:
    """What a model makes of a picture.

    Attributes:
        result: The prediction.
        attention: Where it looks, in every block; None if the model has no such maps.
        reason: Why it has none; otherwise empty.
    """

    result: Result
    attention: Attention | None
    reason: str = ''


def answer(predictor: Predictor, picture: Image.Image) -> Answer:
    """Predict a picture, and compute the attention maps of all blocks that run.

    Raises:
        ValueError: The model cannot read the picture.
    """
    result = predictor.predict(picture)[0]
    try:
        blocks = running_blocks(predictor.model.backbone)
        return Answer(result, predictor.attention(picture, blocks)[0])
    except ValueError as error:  # a backbone without such maps
        return Answer(result, None, str(error))


def default_block(attention: Attention) -> int:
    """The last block that runs in both passes; of a model with one pass, the last."""
    both = [block for block, maps in attention.maps.items() if maps.difference is not None]
    return max(both or attention.maps)


def attention_picture(attention: Attention, block: int) -> tuple[NDArray[np.uint8], str]:
    """Draw the maps of a block, or of the last one below.

    Returns:
        RGB ``(H, W, 3)``, and what it shows in a few words.
    """
    block = max(number for number in attention.maps if number <= block)
    maps = attention.maps[block]
    kind = 'block' if maps.what == 'attention' else 'stage'
    picture = as_image(replace(attention, maps={block: maps}).figure())
    return picture, f'{attention.method}: {kind} {block} of 0 to {max(attention.maps)}'


def legend(result: Segmentation) -> dict[str, tuple[int, str]]:
    """Numbers and colours of the classes that occur, by name and share, largest first."""
    return {
        f'{name} {share:.1%}': (number, '#{:02x}{:02x}{:02x}'.format(*result.palette[number]))
        for name, share in result.areas.items()
        for number in [list(result.classes).index(name)]
    }


def smaller(result: Segmentation) -> Segmentation:
    """The same with at most 1024 pixels on the longer side, for the screen."""
    image = Image.fromarray(result.image)
    image.thumbnail((SIDE, SIDE))
    labels = Image.fromarray(result.labels).resize(image.size, Image.Resampling.NEAREST)
    return replace(result, image=np.asarray(image), labels=np.asarray(labels))


def save_files(result: Result, name: str, folder: Path) -> dict[str, str]:
    """Write what visitors can download.

    Args:
        result: The prediction.
        name: What the owner calls the picture; letters, digits, dots and dashes of it are kept.
        folder: An empty folder.

    Returns:
        Paths of ``'overlay'`` and, of a segmentation, ``'mask'``.

    Raises:
        WriteError: A file cannot be written.
    """
    stem = re.sub(r'[^\w.-]+', '_', Path(name).stem).strip('.')[:80] or 'picture'
    files = {'overlay': str(folder / f'{stem}_overlay.png')}
    with atomic_write(files['overlay']) as partial:
        Image.fromarray(result.overlay()).save(partial, format='png')
    if isinstance(result, Segmentation):
        files['mask'] = str(folder / f'{stem}_mask.png')
        result.save_mask(files['mask'])
    return files
