"""Kill small trainings, sweeps and cache buildings, resume them, and compare their results.

Each job first runs undisturbed. Then it is killed again and again: by SIGKILL, SIGTERM or Ctrl-C,
before a change of a file or at a random moment of its CPU time; one of two processes alone; by a
limit of the size of its files; or, after a SIGKILL, its newest file is cut in half. It is resumed
until it is complete. The SHA-256 of its final weights and optimizer state must be that of the
undisturbed run, and its checkpoints must have the same names. For a sweep, its records must be the
same, and for a cache, its content.

Prints a line per kill, a table of outcomes, and one of the jobs that were killed. The exit
status is 1 if any result differs.

    python benchmarks/reliability.py --kills 100 --seed 0
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from forks import (
    FileEvents,
    ToolProcess,
    cpu_seconds_of_children,
    end_group,
    import_everything,
    limit_files,
)
from small_jobs import write_images
from victims import JOBS, Job, digest

PATIENCE = 120.0  # seconds until a process counts as hanging
CUT = 'SIGKILL, newest file cut in half'
SIGNALS = {'SIGKILL': signal.SIGKILL, 'SIGTERM': signal.SIGTERM, 'Ctrl-C': signal.SIGINT}
KINDS = [
    *(f'{name}, {when}' for name in SIGNALS for when in ('file event', 'random moment')),
    'SIGKILL, one of two processes',
    'SIGTERM, one of two processes',
    'file-size limit',
    CUT,
]


@dataclass(frozen=True)
class Undisturbed:
    """What a job does if nobody kills it."""

    digests: dict[str, str]  # by part of the result
    names: list[str]  # of checkpoints
    cpu_seconds: float
    events: int
    largest: int  # file, in bytes


class Reliability:
    """Kills jobs in a folder; everything random comes from a seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.images = folder, folder / 'images'
        self.random = random.Random(seed)
        write_images(self.images)
        self.undisturbed = cache(self._undisturbed)

    def _undisturbed(self, name: str) -> Undisturbed:
        folder = self.folder / f'undisturbed_{name.replace(" ", "_")}'
        events = FileEvents(folder)
        before = cpu_seconds_of_children()
        processes = JOBS[name].start(self.images, folder, events)
        if any(end_group(processes, PATIENCE)):
            sys.exit(f'{name} fails without a kill:\n{processes[0].output()[-4000:]}')
        seconds = (cpu_seconds_of_children() - before) / len(processes)
        sizes = [path.stat().st_size for path in folder.rglob('*') if path.is_file()]
        result = JOBS[name].result(folder)
        names = result.get('names', [])
        return Undisturbed(digests(result), names, seconds, events.count.value, max(sizes))

    def kill(self, number: int, kind: str, name: str) -> tuple[str, bool, float]:
        """Kill a job once and resume it: how it ended, whether its result is equal, seconds."""
        job, whole = JOBS[name], self.undisturbed(name)
        folder = self.folder / f'killed_{number}'
        start = time.monotonic()
        processes, statuses = self._start_and_kill(job, whole, kind, folder)
        outputs = [process.output() for process in processes]
        outcome = self._outcome(statuses)
        if kind == CUT:
            if path := job.to_cut(folder):
                os.truncate(path, path.stat().st_size // 2)
            else:
                outcome += ', nothing to cut'
        problem, removed = 'a process hangs', None
        if None not in statuses:
            problem, removed = self._complete(kind, job, folder)
        if not problem:
            found = digests(_with(removed, job.result(folder), whole.names))
            other = [part for part, _ in found.items() ^ whole.digests.items()]
            problem = f'the result differs in {", ".join(sorted({*other}))}' if other else ''
        if problem:
            print(f'{kind}, {name}: {problem}; its files are in {folder}\n{outputs[0][-2000:]}')
        return outcome, not problem, time.monotonic() - start

    def _start_and_kill(
        self, job: Job, whole: Undisturbed, kind: str, folder: Path
    ) -> tuple[list[ToolProcess], list[int | None]]:
        moment, event = (
            self.random.uniform(0, whole.cpu_seconds),
            self.random.randrange(whole.events),
        )
        sent = SIGNALS.get(kind.split(',')[0], signal.SIGKILL)
        prepare: Callable[[], None] | None = None
        if kind.endswith('file event'):
            prepare = FileEvents(folder, event, sent)
        elif kind == CUT:  # in the second half, when there is a file to cut
            prepare = FileEvents(folder, (event + whole.events) // 2, sent)
        elif kind == 'file-size limit':
            prepare = partial(limit_files, int(whole.largest ** self.random.uniform(0.5, 1)))
        processes = job.start(self.images, folder, prepare)
        if prepare is None:
            self.random.choice(processes).signal_after(moment, sent)
        return processes, end_group(processes, PATIENCE)

    @staticmethod
    def _outcome(statuses: list[int | None]) -> str:
        if None in statuses:
            return 'hangs'
        if min(statuses) < 0:
            return 'killed'
        if not any(statuses):
            return 'had finished'
        return 'left by itself' if max(statuses) > 128 else 'ended with an error'

    def _complete(self, kind: str, job: Job, folder: Path) -> tuple[str, str | None]:
        """Resume a job until it is complete.

        A checkpoint that was cut is an error that names it. A user then removes it.

        Returns:
            A problem, or an empty text; and the name of the file that was removed, or None.
        """
        removed = None
        for _ in range(2):
            processes = job.start(self.images, folder)
            statuses = end_group(processes, PATIENCE)
            output = '\n'.join(process.output() for process in processes)
            if not any(statuses):
                return '', removed
            cut = job.to_cut(folder) if kind == CUT else None
            if cut is None or str(cut) not in output:
                break
            cut.unlink()
            removed = cut.name
        return f'resuming ends with {statuses}:\n{output[-2000:]}', removed


def _with(removed: str | None, result: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """A result with the name of a checkpoint that was removed, if the undisturbed run keeps it.

    A newer checkpoint exists then, and the training does not write the older one again.
    """
    if removed not in names:
        return result
    return result | {'names': sorted({*result['names'], removed})}


def digests(result: dict[str, Any]) -> dict[str, str]:
    """SHA-256 of each part of a result."""
    return {str(part): digest(value) for part, value in result.items()}


def draw(number: int) -> Iterator[tuple[str, str]]:
    """Kinds in turn, each with the jobs in turn."""
    alone = [name for name, job in JOBS.items() if job.processes == 1]
    for index in range(number):
        turn, place = divmod(index, len(KINDS))
        several = KINDS[place].endswith('processes')
        yield KINDS[place], 'two processes' if several else alone[(place + turn) % len(alone)]


@dataclass(frozen=True)
class Kill:
    """What came of a kill."""

    kind: str
    victim: str
    outcome: str
    equal: bool
    seconds: float


def table(kills: Sequence[Kill]) -> str:
    """Table in Markdown: kills, equal results and mean seconds by kind and outcome."""
    lines = ['| kind | outcome | kills | equal | seconds each |', '|---|---|---:|---:|---:|']
    for kind, outcome in sorted({(kill.kind, kill.outcome) for kill in kills}):
        same = [kill for kill in kills if (kill.kind, kill.outcome) == (kind, outcome)]
        seconds = sum(kill.seconds for kill in same) / len(same)
        equal = sum(kill.equal for kill in same)
        lines.append(f'| {kind} | {outcome} | {len(same)} | {equal} | {seconds:.1f} |')
    lines.append(f'| all | | {len(kills)} | {sum(kill.equal for kill in kills)} | |')
    return '\n'.join(lines)


def table_of_victims(kills: Sequence[Kill]) -> str:
    """Table in Markdown: equal results of all kills, by kind and job."""
    lines = [f'| kind | {" | ".join(JOBS)} |', f'|---|{"---:|" * len(JOBS)}']
    for kind in [*sorted({kill.kind for kill in kills}), 'all']:
        of_kind = [kill for kill in kills if kind in (kill.kind, 'all')]
        cells = []
        for name in JOBS:
            equal = [kill.equal for kill in of_kind if kill.victim == name]
            cells.append(f'{sum(equal)} of {len(equal)} |' if equal else '|')
        lines.append(f'| {kind} | {" ".join(cells)}')
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=100)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--folder', help='where to keep the files of all runs; default: nowhere')
    args = parser.parse_args()
    if args.kills < 1:
        parser.error('--kills must be at least 1')
    if args.folder and Path(args.folder).exists():
        parser.error(f'--folder {args.folder} exists already')
    kills = []
    with tempfile.TemporaryDirectory() as temporary:
        import_everything('train', 'sweep')
        reliability = Reliability(Path(args.folder or temporary).resolve(), args.seed)
        for number, (kind, name) in enumerate(draw(args.kills), 1):
            outcome, equal, seconds = reliability.kill(number, kind, name)
            kills.append(Kill(kind, name, outcome, equal, seconds))
            word = 'equal' if equal else 'DIFFERS'
            print(f'{number:3} {kind}, {name}: {outcome}, {word}, {seconds:.1f} s', flush=True)
    print(f'\n{table(kills)}\n\n{table_of_victims(kills)}')
    sys.exit(not all(kill.equal for kill in kills))


if __name__ == '__main__':
    main()
