"""The table of VTAB-1k."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

from toast_mm.datasets.vtab import VTAB_TASKS

from .protocol import Outcome
from .tables import spread

GROUPS = ('Natural', 'Specialized', 'Structured')


def table(outcomes: Mapping[str, Outcome]) -> str:
    """Markdown, tasks in the order of the paper; others, which have no group, behind them.

    A mean is that of the tasks that were run, and says of how many.
    """
    lines = ['| task | top-1 % | chosen on held-out images | top-1 % there |', '|---|---|---|---|']
    names = [*(name for name in VTAB_TASKS if name in outcomes)]
    names += [name for name in outcomes if name not in VTAB_TASKS]
    for name in names:
        outcome = outcomes[name]
        title = VTAB_TASKS[name].title if name in VTAB_TASKS else name
        chosen = ', '.join(
            f'{key.split(".")[-1]} {value:g}' for key, value in outcome.chosen.items()
        )
        lines.append(f'| {title} | {spread(outcome.values)} | {chosen} | {outcome.selection:.1f} |')
    sets = {
        group: [name for name in names if name in VTAB_TASKS and VTAB_TASKS[name].group == group]
        for group in GROUPS
    }
    for title, members in {**sets, 'all': names}.items():
        if members:
            average = mean(mean(outcomes[name].values) for name in members)
            number = f'{len(members)} task{"s" * (len(members) > 1)}'
            lines.append(f'| **mean, {title} ({number})** | **{average:.1f}** | | |')
    return '\n'.join(lines)
