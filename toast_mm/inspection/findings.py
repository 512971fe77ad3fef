"""Findings about the files of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BROKEN, DOUBTFUL = 'broken', 'doubtful'

# What is broken fails in a training or is wrong in it; what is doubtful works.
KINDS = {
    'data set': BROKEN,
    'missing': BROKEN,
    'empty file': BROKEN,
    'unreadable': BROKEN,
    'truncated': BROKEN,
    'darkened': BROKEN,
    'mask size': BROKEN,
    'mask channels': BROKEN,
    'foreign labels': BROKEN,
    'labels': BROKEN,
    'class names': BROKEN,
    'two classes': DOUBTFUL,
    'class without samples': DOUBTFUL,
    'ignored mask': DOUBTFUL,
    'lossy mask': DOUBTFUL,
    'same in two splits': DOUBTFUL,
    'same in a split': DOUBTFUL,
    'passed over': DOUBTFUL,
    'EXIF orientation': DOUBTFUL,
    'animation': DOUBTFUL,
    'CMYK': DOUBTFUL,
    'alpha': DOUBTFUL,
    'palette': DOUBTFUL,
    '1 bit': DOUBTFUL,
    '16 bits': DOUBTFUL,
    'gigantic': DOUBTFUL,
    'tiny': DOUBTFUL,
    'suffix': DOUBTFUL,
}


@dataclass(frozen=True)
class Finding:
    """One thing that is broken or doubtful.

    Attributes:
        kind: One of :data:`KINDS`.
        split: ``'train'``, ``'val'`` or ``'test'``; two of them with a comma.
        text: A sentence.
        file: The file, or None.
    """

    kind: str
    split: str
    text: str
    file: str | None = None

    @property
    def level(self) -> str:
        """``'broken'`` or ``'doubtful'``."""
        return KINDS[self.kind]


def grouped(findings: Iterable[Finding], level: str) -> list[tuple[str, Sequence[Finding]]]:
    """Findings of a level by kind, in the order of :data:`KINDS`."""
    chosen = [finding for finding in findings if finding.level == level]
    kinds = [kind for kind in KINDS if any(finding.kind == kind for finding in chosen)]
    return [(kind, [finding for finding in chosen if finding.kind == kind]) for kind in kinds]
