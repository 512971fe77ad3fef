"""Short trainings, one after the other in a process, and what each pays besides its steps.

The overhead of a training is what it takes outside the model's ``train_step`` and ``val_step``: in
seconds of the clock, and in seconds of the CPU, which other work on the machine disturbs less and
which count the processes that load data.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from small_jobs import ROOT

KINDS = ('clock', 'CPU')
Seconds = dict[str, float]


class Trainer:
    """A process that trains the same job whenever it is asked.

    Args:
        kind: ``'sweep'``, as a run of ``toast_mm.experiments``; or ``'mmengine'``, by mmengine's
            Runner.
        config: The config.
        folder: Folder of the runs.
        options: Settings that replace those of the config.
        source: Checkout of this repository whose package is used.
    """

    def __init__(
        self,
        kind: str,
        config: Path,
        folder: Path,
        options: dict[str, Any] | None = None,
        source: Path = ROOT,
    ) -> None:
        job = json.dumps(dict(kind=kind, config=str(config), folder=str(folder), options=options))
        self._process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', __file__, job],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, 'PYTHONPATH': str(source)},
        )

    def train(self) -> Seconds:
        """Train once; the overhead."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write('\n')
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            sys.exit('a training failed; its error is above')
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def overheads(trainers: dict[str, Trainer], runs: int) -> dict[str, dict[str, list[float]]]:
    """Train in turn; the overheads by trainer and kind. The first run of each does not count."""
    found: dict[str, dict[str, list[float]]] = {n: {k: [] for k in KINDS} for n in trainers}
    for number in range(runs + 1):
        for name, trainer in trainers.items():
            seconds = trainer.train()
            for kind in KINDS if number else ():
                found[name][kind].append(seconds[kind])
    for trainer in trainers.values():
        trainer.close()
    return found


def ratio(ones: list[float], others: list[float]) -> float:
    """Median of the ratios of neighbouring runs."""
    return median(one / other for one, other in zip(ones, others, strict=True))


def _now() -> Seconds:
    of_all = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        'clock': time.perf_counter(),
        'CPU': sum(usage.ru_utime + usage.ru_stime for usage in of_all),
    }


def _serve(job: dict[str, Any]) -> None:
    """Train for every line of the input, and print the overhead."""
    from mmengine.model import BaseModel

    answers, sys.stdout = sys.stdout, sys.stderr
    steps = dict.fromkeys(KINDS, 0.0)

    def measure(name: str) -> None:
        original = getattr(BaseModel, name)

        def measured(*args: Any, **kwargs: Any) -> Any:
            start = _now()
            try:
                return original(*args, **kwargs)
            finally:
                for kind, value in _now().items():
                    steps[kind] += value - start[kind]

        setattr(BaseModel, name, measured)

    for name in ('train_step', 'val_step'):
        measure(name)
    train = _sweep(job) if job['kind'] == 'sweep' else _mmengine(job)
    for _ in sys.stdin:
        steps.update(dict.fromkeys(KINDS, 0.0))
        start = _now()
        next(train)
        print(
            json.dumps({kind: value - start[kind] - steps[kind] for kind, value in _now().items()}),
            file=answers,
            flush=True,
        )


def _sweep(job: dict[str, Any]) -> Any:
    from toast_mm.experiments.sweep import Run, _train_all

    runs = [Run(str(number), job['config'], job['options'] or {}) for number in range(1000)]
    return _train_all(runs, Path(job['folder']), 1, ())


def _mmengine(job: dict[str, Any]) -> Any:
    """As a sweep trains: a Runner each, without checkpoints, and a log of errors alone."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    for number in range(1000):
        cfg = Config.fromfile(job['config'])
        cfg.merge_from_dict({**(job['options'] or {}), 'randomness.seed': 0})
        cfg.work_dir = f'{job["folder"]}/{number}'
        cfg.experiment_name = str(number)
        cfg.default_hooks.checkpoint = None
        cfg.log_level = 'ERROR'
        Runner.from_cfg(cfg).train()
        yield


if __name__ == '__main__':
    _serve(json.loads(sys.argv[1]))
