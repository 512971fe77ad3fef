"""What doctor.py finds."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, BROKEN = 'ok', 'note', 'broken'


@dataclass
class Finding:
    """One finding.

    Attributes:
        state: ``'ok'``, ``'note'`` (works, but slower or not with everything) or ``'broken'``.
        what: What was examined.
        text: What it is like.
        mend: What to do; '' if there is nothing to do.
    """

    state: str
    what: str
    text: str
    mend: str = ''
