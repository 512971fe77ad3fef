"""Data of a user: what a job has to know of it, and validation images if it has none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from toast_mm.conversion.splitting import split_at_random

SPLITS = ('train', 'val', 'test')


class DataError(ValueError):
    """Data cannot be used; the message names the folder or file, and what would be right."""


@dataclass
class OwnData:
    """Images of a user in one of the layouts of this package.

    Attributes:
        root: The folder.
        classes: Names of the classes, in the order of their labels.
        samples: Lines of a list of images, by split; ``test`` is ``val`` if there is no other.
        folders: Folders of the splits, relative to where images are. It is empty if the splits are
            lists of images, since the folder does not have them.
        notes: What is odd about the data, in sentences.
    """

    task: ClassVar[str]

    root: Path
    classes: list[str]
    samples: dict[str, list[str]]
    folders: dict[str, str]
    notes: list[str]

    def dataset(self) -> dict[str, Any]:
        """Settings of the data set that all splits share."""
        raise NotImplementedError

    def place(self, folder: str) -> dict[str, Any]:
        """Settings of the data set that say where the images of a split are."""
        raise NotImplementedError

    def __str__(self) -> str:
        tested = self.samples['test'] is not self.samples['val']
        sizes = ', '.join(f'{len(self.samples[s])} {s}' for s in SPLITS[: 2 + tested])
        return f'{self.root.name}, {len(self.classes)} classes; images: {sizes}'


def complete(
    samples: dict[str, list[str]], labels: list[set[str]], held_out: float, seed: int
) -> list[str]:
    """Draw validation images if there are none, and test on them if there are no others.

    Args:
        samples: Lines by split, which are changed.
        labels: Classes in every training image.
        held_out: Share of the training images to draw, of every class.
        seed: Seed of the draw.

    Returns:
        Sentences about classes that validation lacks.

    Raises:
        DataError: There are too few images.
    """
    notes = []
    if 'val' not in samples:
        lines = samples['train']
        shares = {'train': 1 - held_out, 'val': held_out}
        drawn = split_at_random(lines, labels, shares, seed)
        for split in shares:
            samples[split] = [line for line, of in zip(lines, drawn, strict=True) if of == split]
        if not samples['val'] or not samples['train']:
            raise DataError(
                f'held_out={held_out} of {len(lines)} training images leaves none to train or to '
                'validate: add images'
            )
        seen = set().union(*(n for of, n in zip(drawn, labels, strict=True) if of == 'val'))
        notes = [
            f'none of the {len(samples["val"])} validation images has class {name!r}: '
            'add images, or draw more by held_out'
            for name in sorted(set().union(*labels) - seen)
        ]
    samples.setdefault('test', samples['val'])
    return notes
