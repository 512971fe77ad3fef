"""Conditions of one task under the protocol of the sweeps: for steering.py and first_passes.py."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config

from toast_mm.experiments import Outcome, Task, run_protocol, validate_on_test_data

SEEDS = (1, 2, 3)


def run_conditions(
    task: str,
    config: str,
    conditions: Mapping[str, Mapping[str, Any]],
    out_dir: str,
    workers: int,
    settings: Mapping[str, Any],
    rates: Sequence[float] | None = None,
    metric: str = 'accuracy/top1',
) -> dict[str, Outcome]:
    """Choose a learning rate for every condition on held-out data, then train and test it.

    Args:
        task: Name of the task, the folder of its runs.
        config: Its config, with a ``search``.
        conditions: Settings of each condition by name.
        out_dir: Folder of all runs.
        workers: Runs at a time.
        settings: Settings of all conditions.
        rates: Learning rates. Defaults to None, those of the ``search``.
        metric: What is compared.

    Returns:
        Outcomes by condition.
    """
    cfg = Config.fromfile(config)
    search = cfg.get('search', {})
    tasks = {
        condition: Task(
            f'{task}/{re.sub("[,/]", "", condition).replace(" ", "-")}',
            config,
            {**settings, **changes},
            search=search.get('held_out', {}),
            final=validate_on_test_data(cfg),
            grid=[{'optim_wrapper.optimizer.lr': rate} for rate in rates or search.lr],
        )
        for condition, changes in conditions.items()
    }
    outcomes = run_protocol(tasks.values(), SEEDS, out_dir, metric, workers=workers)
    return {condition: outcomes[entry.name] for condition, entry in tasks.items()}
