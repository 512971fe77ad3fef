"""What a conversion did, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prettytable import PrettyTable
from rich.console import Console
from rich.progress import track

from toast_mm.conversion.writing import RECORD, Report

SHOWN = 10  # left-out files that are named


def show_progress(images: Iterable[Any], total: int) -> Iterable[Any]:
    """A bar on the standard error, which disappears at the end."""
    console = Console(stderr=True)
    return track(images, 'Converting', total, transient=True, console=console)


def summary(report: Report, target: Path) -> str:
    """Classes with images and pixels of every split, what to know, and what was left out."""
    columns: dict[str, dict[str, int]] = {}
    for split, number in report.images.items():
        columns[f'{split}: {number} images'] = report.per_class[split]
        if report.pixels:
            columns[f'{split}: pixels'] = report.pixels[split]
    table = PrettyTable(['', 'class', *columns], align='r')
    table.align['class'] = 'l'
    for number, name in enumerate(report.classes):
        table.add_row([number, name, *(f'{values[name]:,}' for values in columns.values())])
    lines = [f'{target}: {report.task}, {len(report.classes)} classes', str(table)]
    if ignored := sum(pixels['255'] for pixels in report.pixels.values()):
        lines.append(f'{ignored:,} pixels are ignored (255)')
    lines += report.notes
    lines += _left_out(report, target)
    return '\n'.join(lines)


def _left_out(report: Report, target: Path) -> list[str]:
    skipped = report.skipped
    if not skipped:
        return []
    lines = [f'left out: {len(skipped)}']
    lines += [f'  {one.what}: {one.why}' for one in skipped[:SHOWN]]
    if len(skipped) > SHOWN:
        counts = Counter(_kind(one.why) for one in skipped[SHOWN:])
        rest = '; '.join(f'{number} x {why}' for why, number in counts.most_common(SHOWN))
        lines.append(f'  and {len(skipped) - SHOWN} more ({rest}): {target / RECORD} lists all')
    return lines


def _kind(why: str) -> str:
    """Beginning of a reason, without the numbers of the single case."""
    return ''.join('#' if letter.isdigit() else letter for letter in why.partition(':')[0])
