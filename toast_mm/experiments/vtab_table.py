"""The table of VTAB-1k."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

from toast_mm.datasets.vtab import VTAB_TASKS

from .protocol import Outcome
from .tables import markdown, outcome_rows

GROUPS = ('Natural', 'Specialized', 'Structured')


def table(outcomes: Mapping[str, Outcome]) -> str:
    """Make the Markdown table: tasks in the order of the paper, then others, without a group.

    Means are over the tasks that were run; their number is shown.
    """
    names = [*(name for name in VTAB_TASKS if name in outcomes)]
    names += [name for name in outcomes if name not in VTAB_TASKS]
    titles = {name: VTAB_TASKS[name].title if name in VTAB_TASKS else name for name in names}
    rows = outcome_rows({titles[name]: outcomes[name] for name in names})
    sets = {
        group: [name for name in names if name in VTAB_TASKS and VTAB_TASKS[name].group == group]
        for group in GROUPS
    }
    for title, members in {**sets, 'all': names}.items():
        if members:
            average = mean(mean(outcomes[name].values) for name in members)
            number = f'{len(members)} task{"s" * (len(members) > 1)}'
            rows.append([f'**mean, {title} ({number})**', f'**{average:.1f}**', '', ''])
    return markdown(rows)
