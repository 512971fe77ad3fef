"""The protocol: choose settings on held-out training data, then train on all data and test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config

from .sweep import Run, run_all


@dataclass(frozen=True)
class Task:
    """A config, with the settings of its search and of its final trainings.

    Attributes:
        name: Name of the task, and of the folder of its runs.
        config: Config file.
        options: Settings of all its runs.
        search: Further settings of the search: train on a part, validate on held-out images.
        final: Further settings of the final runs: train on all images, validate on the test data.
        grid: Settings to choose from. The first of the best is chosen.
        info: Facts about the task, for tables.
    """

    name: str
    config: str
    options: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    final: Mapping[str, Any] = field(default_factory=dict)
    grid: Sequence[Mapping[str, Any]] = ({},)
    info: Mapping[str, Any] = field(default_factory=dict)

    def search_run(self, point: Mapping[str, Any]) -> Run:
        """The run that tries one point of the grid."""
        name = f'{self.name}/search/{"-".join(str(value) for value in point.values())}'
        options = {**self.options, **self.search, **point}
        return Run(name, self.config, options, info={**self.info, 'phase': 'search'})

    def final_run(self, point: Mapping[str, Any], seed: int) -> Run:
        """The run of one seed with the chosen settings."""
        options = {**self.options, **self.final, **point}
        info = {**self.info, 'phase': 'final', 'seed': seed}
        return Run(f'{self.name}/{seed}', self.config, options, seed, info)


@dataclass(frozen=True)
class Outcome:
    """The result of a task.

    Attributes:
        chosen: Settings that were chosen.
        selection: Their metric on the held-out data.
        values: Metric of every seed on the test data.
    """

    chosen: Mapping[str, Any]
    selection: float
    values: list[float]


def validate_on_test_data(cfg: Config) -> dict[str, Any]:
    """Settings that make a config validate on its test data."""
    evaluator = cfg.test_evaluator
    if isinstance(evaluator, dict):
        evaluator = {'_delete_': True, **evaluator}
    return {
        'val_dataloader': {'_delete_': True, **cfg.test_dataloader},
        'val_evaluator': evaluator,
    }


def run_protocol(
    tasks: Iterable[Task],
    seeds: Sequence[int],
    out_dir: str,
    metric: str = 'accuracy/top1',
    workers: int = 1,
    devices: Sequence[str] = (),
    cluster: Mapping[str, Any] | None = None,
) -> dict[str, Outcome]:
    """Run the search and the final runs of all tasks; :func:`run_all` runs each of them once.

    Args:
        tasks: The tasks.
        seeds: Seeds of the final runs.
        out_dir: Folder of the runs.
        metric: Metric of the last validation that settings are compared by; higher is better.
        workers: Runs at a time.
        devices: GPUs of the workers.
        cluster: Options of :class:`Cluster`, whose jobs the runs then are. Defaults to None.

    Returns:
        Outcome by name of the task.
    """
    tasks = list(tasks)
    searches = [task.search_run(point) for task in tasks for point in task.grid]
    found = run_all(searches, out_dir, workers, devices, cluster)

    def held_out(task: Task, point: Mapping[str, Any]) -> float:
        metrics = found[task.search_run(point).name]
        if metric not in metrics:
            raise KeyError(f'there is no metric {metric!r}; there are: {", ".join(metrics)}')
        return metrics[metric]

    chosen = {task.name: max(task.grid, key=lambda point: held_out(task, point)) for task in tasks}
    finals = [task.final_run(chosen[task.name], seed) for task in tasks for seed in seeds]
    results = run_all(finals, out_dir, workers, devices, cluster)
    return {
        task.name: Outcome(
            chosen[task.name],
            held_out(task, chosen[task.name]),
            [results[task.final_run(chosen[task.name], seed).name][metric] for seed in seeds],
        )
        for task in tasks
    }
