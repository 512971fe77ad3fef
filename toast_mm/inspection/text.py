"""A report as text and as data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from toast_mm.inspection.data_report import DataReport, SplitReport
from toast_mm.inspection.findings import BROKEN, DOUBTFUL, grouped

SHOWN = 5  # findings of a kind
CLASSES = 12  # counts in a line


def as_text(report: DataReport) -> str:
    """Splits, then what is broken and what is doubtful, with some files of each kind."""
    lines = [_of_split(split, found) for split, found in report.splits.items()]
    for level in (BROKEN, DOUBTFUL):
        for kind, findings in grouped(report.findings, level):
            lines.append(f'{level}: {kind} ({len(findings)})')
            for finding in findings[:SHOWN]:
                place = f'{finding.file}: ' if finding.file else ''
                lines.append(f'  {finding.split}: {place}{finding.text}')
            if len(findings) > SHOWN:
                lines.append(f'  and {len(findings) - SHOWN} more; --json FILE lists all')
    lines.append(', '.join(f'{number} {level}' for level, number in counts(report).items()))
    return '\n'.join(lines)


def counts(report: DataReport) -> dict[str, int]:
    """Number of findings of each level."""
    return {
        level: sum(finding.level == level for finding in report.findings)
        for level in (BROKEN, DOUBTFUL)
    }


def as_data(report: DataReport) -> dict[str, Any]:
    """All of a report in lists and dicts."""
    return {
        **counts(report),
        'splits': {
            split: dict(
                samples=len(found.samples),
                same_as=found.same_as,
                classes=found.classes,
                counts=found.counts,
                kinds=dict(found.kinds()),
                smallest=min(found.sizes(), default=None, key=_area),
                largest=max(found.sizes(), default=None, key=_area),
            )
            for split, found in report.splits.items()
        },
        'findings': [dict(level=one.level, **asdict(one)) for one in report.findings],
    }


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _of_split(split: str, found: SplitReport) -> str:
    if found.same_as:
        return f'{split}: the samples of {found.same_as}'
    kinds = ', '.join(f'{number} {kind}' for kind, number in found.kinds().most_common())
    line = f'{split}: {len(found.samples)} samples ({kinds})'
    if sizes := found.sizes():
        small, large = min(sizes, key=_area), max(sizes, key=_area)
        line += f', {small[0]} x {small[1]} to {large[0]} x {large[1]} pixels'
    if found.counts:
        total = sum(found.counts) or 1
        pairs = zip(found.classes, found.counts, strict=True)
        shown = [
            f'{name} {number / total:.1%}' if found.segments else f'{name} {number}'
            for name, number in pairs
        ]
        more = [f'and {len(shown) - CLASSES} more'] if len(shown) > CLASSES else []
        line += f'; {len(shown)} classes: {", ".join([*shown[:CLASSES], *more])}'
    return line
