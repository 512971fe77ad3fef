"""Run many small trainings, each of them once."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from mmengine.config import Config
from mmengine.utils import ProgressBar

from toast_mm.checkpoint import WEIGHTS
from toast_mm.datasets.kept_images import KeptImages
from toast_mm.engine.config import apply_options, job_name, read_config
from toast_mm.engine.model import unwrap
from toast_mm.engine.runner import build_runner
from toast_mm.files import naming_files

from .cluster import Cluster

KEPT_BYTES = 2**30  # of decoded images, for all runs at a time on this machine
_images = KeptImages(KEPT_BYTES)  # of this process, for all its runs


@dataclass(frozen=True)
class Run:
    """One training: a config and changes to it.

    Attributes:
        name: Name of the run and of its folder, unique in a sweep.
        config: Config file.
        options: Settings that replace those of the config, like ``--cfg-options``.
        seed: Seed of the training.
        info: Facts that are written with the metrics, for tables.
    """

    name: str
    config: str
    options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    info: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Config:
        """The config of the run."""
        cfg = read_config(self.config)
        apply_options(cfg, {**self.options, 'randomness.seed': self.seed})
        return cfg


def run_all(
    runs: Iterable[Run],
    out_dir: str,
    workers: int = 1,
    devices: Sequence[str] = (),
    cluster: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, float]]:
    """Train every run that has not been trained yet, and return the metrics of all.

    Every finished run adds a line to ``out_dir/runs.jsonl``. After an
    interruption, finished runs are read from there. A run whose config has
    changed is trained again.

    Args:
        runs: The runs.
        out_dir: Folder of the sweep.
        workers: Runs at a time. Each has a process with its share of the CPU's threads; a single
            worker runs in this process.
        devices: GPUs that the workers share evenly, named as in ``CUDA_VISIBLE_DEVICES``. Without
            any, the environment decides.
        cluster: Options of :class:`Cluster`. Every run is then a job. Defaults to None: the runs
            are on this machine.

    Returns:
        Metrics of the last validation by name of the run.
    """
    file = Path(out_dir) / 'runs.jsonl'
    file.parent.mkdir(parents=True, exist_ok=True)
    finished = {
        (record['name'], record['config']): record['metrics'] for record in read_records(file)
    }
    metrics: dict[str, dict[str, float]] = {}
    waiting, digests, jobs = [], {}, {}
    for run in runs:
        cfg = run.load()
        digests[run.name], jobs[run.name] = _digest(cfg), job_name(run.config, cfg)
        known = finished.get((run.name, digests[run.name]))
        if known is None:
            waiting.append(run)
        else:
            metrics[run.name] = known
    if not waiting:
        return metrics
    progress = ProgressBar(len(waiting), file=sys.stdout)
    if cluster is None:
        training = _train_all(waiting, file.parent, workers, devices)
    else:
        scheduler = Cluster(file.parent / 'jobs', cluster)
        training = _train_in_jobs(waiting, file.parent, workers, scheduler, digests)
    for run, trained in training:
        metrics[run.name] = trained.metrics
        record = dict(
            name=run.name,
            job=jobs[run.name],
            config=digests[run.name],
            metrics=trained.metrics,
            tuned=trained.tuned,
            seconds=trained.seconds,
            **run.info,
        )
        with naming_files(), file.open('a') as stream:
            stream.write('\n' + json.dumps(record))  # the last line may be cut
        progress.update()
    print()
    return metrics


def _train_all(
    runs: list[Run], folder: Path, workers: int, devices: Sequence[str]
) -> Iterator[tuple[Run, Trained]]:
    """Yield every run with its result, as they finish."""
    if workers == 1 and not devices:
        with _frozen():
            for run in runs:
                yield run, _train(run, str(folder / run.name))
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    spawn = get_context('spawn')
    room = KEPT_BYTES // workers
    places = spawn.SimpleQueue()
    for number in range(workers):
        places.put(devices[number % len(devices)] if devices else None)
    pool = ProcessPoolExecutor(workers, spawn, _start_worker, (threads, places, room))
    running: dict[Any, Run] = {}
    try:
        yield from _as_they_finish(
            runs,
            workers,
            running,
            submit=lambda run: pool.submit(_train, run, str(folder / run.name)),
            some=lambda futures: wait(futures, return_when=FIRST_COMPLETED).done,
            error=lambda run, future: future.exception(),
        )
    finally:
        for child in active_children() if running else []:  # interrupted
            child.terminate()
        pool.shutdown(cancel_futures=True)


def _train_in_jobs(
    runs: list[Run], folder: Path, workers: int, cluster: Cluster, digests: Mapping[str, str]
) -> Iterator[tuple[Run, Trained]]:
    """Yield every run with its result, each from a job of a cluster."""
    running: dict[Any, Run] = {}

    def submit(run: Run) -> Any:
        key = f'{run.name} {digests[run.name]}'
        return cluster.submit(key, _train, run, str(folder / run.name))

    try:
        yield from _as_they_finish(
            runs,
            workers,
            running,
            submit=submit,
            some=cluster.wait,
            error=lambda run, job: cluster.error(run.name, job),
        )
    finally:
        for job in running:  # interrupted
            job.cancel()


def _as_they_finish(
    runs: list[Run],
    workers: int,
    running: dict[Any, Run],
    submit: Callable[[Run], Any],
    some: Callable[[Iterable[Any]], Iterable[Any]],
    error: Callable[[Run, Any], BaseException | None],
) -> Iterator[tuple[Run, Trained]]:
    """Submit runs, and yield each with its result. After a failure no further run begins.

    Args:
        runs: The runs.
        workers: Runs at a time.
        running: Filled with what is running.
        submit: Begins a run.
        some: Waits until one of them or more have ended, and returns these.
        error: The error of one that has ended, if it failed.
    """
    waiting = deque(runs)
    failure: BaseException | None = None
    while True:
        # Not more than run at once: queued runs would start even after a failure.
        while failure is None and len(running) < workers and waiting:
            run = waiting.popleft()
            running[submit(run)] = run
        if not running:
            break
        for ended in some(running):
            run = running.pop(ended)
            found = error(run, ended)
            if found is None:
                yield run, ended.result()
            elif failure is None:
                failure = found
                print(f'\n{run.name} failed; waiting for {len(running)} others to finish')
    if failure is not None:
        raise failure


def _start_worker(threads: int, places: SimpleQueue, room: int) -> None:
    """Prepare a process for its runs; it ends with its parent.

    Args:
        threads: Its threads.
        places: Queue of GPUs; it takes one, which is set before CUDA starts.
        room: Bytes for images that it keeps.
    """
    Thread(target=_end_with_parent, daemon=True).start()
    gc.collect()
    gc.freeze()
    _images.limit = room
    torch.set_num_threads(threads)
    device = places.get()
    if device is not None:
        os.environ['CUDA_VISIBLE_DEVICES'] = device


@contextmanager
def _frozen() -> Iterator[None]:
    """Spare the garbage collector all that exists, such as modules.

    Each data set of mmengine collects garbage, which otherwise takes as long as to read it.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def read_records(file: Path) -> Iterator[dict]:
    """Records of a file, without lines that an interruption cut."""
    for line in file.read_text().splitlines() if file.exists() else []:
        with suppress(json.JSONDecodeError):
            yield json.loads(line)


# Settings that only change the speed and the log.
_IMMATERIAL = ('num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor', 'log_level')


def _digest(cfg: Config) -> str:
    """Digest of a config and of the content of the files that it names.

    ``search`` lists other runs and is left out, like the config's private names.
    """
    settings = {
        key: value
        for key, value in cfg.to_dict().items()
        if key != 'search' and not key.startswith('_')
    }
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, dict):
            for key in sorted(value.keys() - {*_IMMATERIAL}, key=str):
                digest.update(f'{key}:'.encode())
                add(value[key])
        elif isinstance(value, (list, tuple)):
            digest.update(f'{len(value)}['.encode())
            for item in value:
                add(item)
        else:
            digest.update(f'{value!r};'.encode())
            file = Path(str(value).replace('toast_mm://', f'{WEIGHTS}/'))
            if isinstance(value, str) and len(value) < 1000 and file.is_file():
                status = file.stat()
                digest.update(_content(str(file), status.st_size, status.st_mtime_ns))

    add(settings)
    return digest.hexdigest()[:16]


@lru_cache
def _content(file: str, size: int, changed: int) -> bytes:
    """SHA-256 of a file, cached until the file changes."""
    return hashlib.sha256(Path(file).read_bytes()).digest()


@dataclass(frozen=True)
class Trained:
    """Result of a run: metrics of the last validation, tuned backbone parameters, seconds."""

    metrics: dict[str, float]
    tuned: int
    seconds: float


def _train(run: Run, work_dir: str) -> Trained:
    """Train without keeping checkpoints."""
    start = time.time()
    cfg = run.load()
    cfg.work_dir = work_dir
    cfg.experiment_name = run.name.replace('/', '_')
    cfg.default_hooks.checkpoint = None
    cfg.log_level = 'ERROR'
    with _images.in_use():
        runner = build_runner(cfg)
        runner.train()
    scalars = runner.message_hub.log_scalars
    values = {
        name.removeprefix('val/'): float(buffer.current())
        for name, buffer in scalars.items()
        if name.startswith('val/') and not name.endswith('time')
    }
    backbone = unwrap(runner.model).backbone
    tuned = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
    return Trained(values, tuned, time.time() - start)
