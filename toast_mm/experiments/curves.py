"""Curves of trainings, from the scalars that mmengine's ``LocalVisBackend`` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .sweep import read_records

SCALARS = 'vis_data/scalars.json'
_COUNTERS = ('epoch', 'iter', 'step')


@dataclass
class Curve:
    """Values of one key over a training.

    Attributes:
        unit: What the steps count: ``'iteration'`` or ``'epoch'``.
        points: Value by step.
    """

    unit: str
    points: dict[int, float] = field(default_factory=dict)


def read_curves(path: str | Path) -> dict[str, Curve]:
    """Read the curves of a work directory, of one run in it, or of a file of scalars.

    A resumed training has a log for every start. They become one curve: where two logs have the
    same steps, the later one counts.

    Raises:
        FileNotFoundError: There is no such path, or no scalars in it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f'{path} does not exist: give a work directory or a scalars.json')
    logs = [path] if path.is_file() else sorted(path.glob(f'*/{SCALARS}'))
    if (path / SCALARS).is_file():
        logs = [path / SCALARS]
    curves: dict[str, Curve] = {}
    for log in logs:
        for key, curve in _read_log(log).items():
            if key in curves:
                first = min(curve.points)
                kept = {s: v for s, v in curves[key].points.items() if s < first}
                curve.points = kept | curve.points
            curves[key] = curve
    if not curves:
        raise FileNotFoundError(
            f'{path} holds no scalars of a training; they are in */{SCALARS}, and LocalVisBackend '
            'writes them'
        )
    return curves


def _read_log(log: Path) -> dict[str, Curve]:
    """Curves of one start; a key that training and validation log, such as time, is training's."""
    records = [record for record in read_records(log) if isinstance(record, dict)]
    by_epoch = any('epoch' in record for record in records)
    training = [record for record in records if 'iter' in record]
    validation = [record for record in records if 'iter' not in record]
    curves: dict[str, Curve] = {}
    for part, unit in ((training, 'iteration'), (validation, 'epoch' if by_epoch else 'iteration')):
        found: dict[str, Curve] = {}
        for record in part:
            for key, value in record.items():
                known = isinstance(value, (int, float)) and isinstance(record.get('step'), int)
                if known and key not in _COUNTERS:
                    found.setdefault(key, Curve(unit)).points[record['step']] = float(value)
        curves = found | curves
    return curves


def draw_curves(runs: Mapping[str, Mapping[str, Curve]], keys: Sequence[str], path: str) -> None:
    """Write a picture with a panel for every key and a line for every run that logged it.

    Args:
        runs: Curves by key, by the title of the run.
        keys: Keys to draw.
        path: File to write; its suffix is the format.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * len(keys), 4), layout='constrained')
    for axes, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys, strict=True):
        units: dict[str, None] = {}
        for title, curves in runs.items():
            steps, values = zip(*sorted(curves[key].points.items()), strict=True)
            axes.plot(steps, values, label=title, marker='.' if len(steps) < 30 else None)
            units[curves[key].unit] = None
        axes.set(title=key, xlabel=' / '.join(units))
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc='outside lower center', fontsize=8)
    figure.savefig(path, dpi=120)
