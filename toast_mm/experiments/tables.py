"""Tables of results as Markdown, CSV and LaTeX, and a plot over the tuned parameters."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev

from toast_mm.datasets.vtab import VTAB_TASKS

from .protocol import Outcome
from .published import FGVC, PUBLISHED
from .results import Result

ORDER = (*FGVC, *VTAB_TASKS, 'voc12aug', 'ade20k')


@dataclass
class Row:
    """One method on one backbone.

    Attributes:
        backbone: The backbone.
        method: The method.
        tuned: Number of tuned parameters without the head, if known.
        values: Values of the seeds by data set.
        published: Whether the values are figures of the paper.
    """

    backbone: str
    method: str
    tuned: int | None = None
    values: dict[str, list[float]] = field(default_factory=dict)
    published: bool = False

    def mean(self, columns: Sequence[str]) -> float | None:
        """Mean over the data sets; None if one has no value."""
        if not all(column in self.values for column in columns):
            return None
        return mean(mean(self.values[column]) for column in columns)

    def deviation(self, columns: Sequence[str]) -> float:
        """Standard deviation over the seeds, 0 for several data sets or a single seed."""
        values = self.values.get(columns[0], []) if len(columns) == 1 else []
        return stdev(values) if len(values) > 1 else 0.0


def collect(results: Iterable[Result]) -> list[Row]:
    """Group results into rows, in their order; the seeds of one training share a row.

    Raises:
        ValueError: A training occurs twice.
    """
    rows: dict[tuple[str, str], Row] = {}
    seen = set()
    for result in results:
        key = (result.backbone, result.method, result.data, result.seed)
        if key in seen:
            raise ValueError(
                f'{result.method} on {result.backbone}, {result.data}, seed {result.seed} occurs '
                'twice: name each training once'
            )
        seen.add(key)
        row = rows.setdefault(key[:2], Row(result.backbone, result.method, result.tuned))
        row.values.setdefault(result.data, []).append(result.value)
    return list(rows.values())


def add_published(rows: list[Row]) -> list[Row]:
    """Put figures of the paper for the same backbones and data sets before the rows."""
    columns = columns_of(rows)
    backbones = {row.backbone for row in rows}
    found = []
    for (backbone, method), figures in PUBLISHED.items():
        values = {column: [figures[column]] for column in columns if column in figures}
        if backbone in backbones and values:
            found.append(Row(backbone, method, None, values, published=True))
    return found + rows


def columns_of(rows: Iterable[Row]) -> list[str]:
    """Data sets in the order of the paper, then others in their own order."""
    names = dict.fromkeys(name for row in rows for name in row.values)
    return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """The table, its header first."""
    columns = columns_of(rows)
    table = [['backbone', 'method', 'tuned', *columns, *['mean'] * (len(columns) > 1)]]
    for row in rows:
        method = f'{row.method} (paper)' if row.published else row.method
        average = row.mean(columns)
        table.append(
            [
                row.backbone,
                method,
                '' if row.tuned is None else millions(row.tuned),
                *(spread(row.values.get(column, [])) for column in columns),
                *['' if average is None else f'{average:.1f}'] * (len(columns) > 1),
            ]
        )
    return table


def millions(number: int) -> str:
    """Format a number as ``1.23M``, small ones as they are."""
    return f'{number / 1e6:.2f}M' if number >= 10_000 else str(number)


def spread(values: Sequence[float]) -> str:
    """Format the mean, with the standard deviation if there are several values."""
    if not values:
        return ''
    return f'{mean(values):.1f} ± {stdev(values):.1f}' if len(values) > 1 else f'{values[0]:.1f}'


def outcome_rows(outcomes: Mapping[str, Outcome]) -> list[list[str]]:
    """One row per title: the result of the protocol and the chosen settings."""
    table = [['task', 'test %', 'chosen on held-out images', 'there %']]
    for title, outcome in outcomes.items():
        chosen = ', '.join(
            f'{key.split(".")[-1]} {value:g}' for key, value in outcome.chosen.items()
        )
        table.append([title, spread(outcome.values), chosen, f'{outcome.selection:.1f}'])
    return table


def outcome_table(outcomes: Mapping[str, Outcome]) -> str:
    """Markdown of :func:`outcome_rows`."""
    return markdown(outcome_rows(outcomes))


def markdown(table: list[list[str]]) -> str:
    """Format a table as Markdown."""
    lines = [f'| {" | ".join(row)} |' for row in table]
    return '\n'.join([lines[0], f'|{"---|" * len(table[0])}', *lines[1:]])


def comma_separated(table: list[list[str]]) -> str:
    """Format a table as CSV."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator='\n').writerows(table)
    return stream.getvalue().rstrip('\n')


def latex(table: list[list[str]]) -> str:
    """Format a table as a LaTeX tabular."""
    escaped = [
        ' & '.join(cell.replace('_', r'\_').replace('±', r'$\pm$') for cell in row) + r' \\'
        for row in table
    ]
    columns = 'll' + 'r' * (len(table[0]) - 2)
    return '\n'.join(
        [
            rf'\begin{{tabular}}{{{columns}}}',
            r'\hline',
            escaped[0],
            r'\hline',
            *escaped[1:],
            r'\hline',
            r'\end{tabular}',
        ]
    )


FORMATS: dict[str, Callable[[list[list[str]]], str]] = {
    'markdown': markdown,
    'csv': comma_separated,
    'latex': latex,
}


def draw_curve(rows: Sequence[Row], path: str, metric: str) -> None:
    """Plot the mean metric over the tuned parameters, one point per row, as a PNG.

    A line joins the variants of TOAST (routes, ranks) on one backbone. With one data set, bars show
    standard deviations.

    Raises:
        ValueError: No row has both a mean and the number of tuned parameters.
    """
    from matplotlib.figure import Figure

    columns = columns_of(rows)
    figure = Figure(figsize=(6, 4), layout='constrained')
    axes = figure.subplots()
    for backbone in dict.fromkeys(row.backbone for row in rows):
        points = sorted(
            (row.tuned, average, row.method, row.deviation(columns))
            for row in rows
            if row.backbone == backbone and row.tuned and (average := row.mean(columns)) is not None
        )
        family = [point for point in points if point[2].lower().startswith('toast')]
        color = None
        for members, style in ((family, 'o-'), ([p for p in points if p not in family], 'D')):
            if members:
                tuned, averages, names, deviations = zip(*members, strict=True)
                (line, *_) = axes.errorbar(
                    tuned, averages, deviations, fmt=style, capsize=2, color=color
                )
                line.set_label(backbone if color is None else None)
                color = line.get_color()
                for x, y, name in zip(tuned, averages, names, strict=True):
                    axes.annotate(name, (x, y), (4, 5), textcoords='offset points', fontsize=8)
    if not axes.lines:
        raise ValueError('no row has both tuned parameters and a value for every data set')
    axes.set(xscale='log', xlabel='tuned parameters without the head', ylabel=f'mean {metric}')
    axes.margins(x=0.2)
    axes.legend()
    figure.savefig(path, dpi=150)
