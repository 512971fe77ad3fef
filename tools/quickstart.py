"""Compare TOAST with a linear probe on two tasks with handwritten digits.

Makes the data, tunes and tests four models, prints a table and draws two pictures. After an
interruption, call it again: it continues, and finished steps are not repeated.

Example:
    python tools/quickstart.py
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import runpy
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = Path('data/digits')
SCENES = 'vit-1m_upernet_1xb16-350_digits-scenes-64x64'
CUED = 'vit-1m_1xb32-400_digits-cued-64x64'
# The longest first, since two of them run at a time.
TITLES = {
    f'toast-{CUED}': 'TOAST on cued digits',
    f'toast-{SCENES}': 'TOAST on scenes',
    f'linear-{SCENES}': 'linear probe on scenes',
    f'linear-{CUED}': 'linear probe on cued digits',
}
METRICS = {
    SCENES: ('scenes of digits: mIoU', 'mIoU'),
    CUED: ('digit on the red card: accuracy', 'accuracy/top1'),
}
COUNTER = re.compile(r'\) *\[ *(\d+/\d+)\].* eta: ([0-9:]+)')


def say(text: str) -> None:
    print(f'quickstart: {text}', flush=True)


def folder(job: str) -> Path:
    return Path('work_dirs', job)


def checkpoint(job: str) -> Path:
    return folder(job) / Path((folder(job) / 'last_checkpoint').read_text().strip()).name


def tool(name: str, *arguments: object) -> None:
    """Run a tool as its command line would."""
    sys.argv = [str(ROOT / 'tools' / f'{name}.py'), *map(str, arguments)]
    sys.path[0] = os.path.dirname(sys.argv[0])
    runpy.run_path(sys.argv[0], run_name='__main__')


def make_data() -> None:
    tool('dataset_converters/digits', DATA)


def run_job(job: str, threads: int) -> None:
    """Tune and test a config in its folder of work_dirs, and draw attention maps of TOAST."""
    import torch

    torch.set_num_threads(threads)
    config, out = ROOT / f'configs/quickstart/{job}.py', folder(job)
    partial = out / 'partial.json'
    # No random augmentation: the first pass of every image is computed once.
    tool(
        *('train', config, '--work-dir', out, '--resume', '--no-validate'),
        *('--cfg-options', 'first_pass_cache=True'),
    )
    tool(
        *('test', config, checkpoint(job), '--work-dir', out),
        *('--out', partial, '--out-item', 'metrics', '--overwrite'),  # left by a killed run
    )
    if job.startswith('toast-'):
        picture = out / 'attention.png'
        tool('visualization/attention', config, checkpoint(job), '--out', picture, '--overwrite')
    partial.rename(out / 'metrics.json')


def start(function, *arguments: str, log: Path | None = None) -> BaseProcess:
    """Call a function in a new process, with its output in a log."""

    def main() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        if log is not None:
            with log.open('w') as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
            # So that output before an error precedes the error in the log.
            sys.stdout.reconfigure(line_buffering=True)
        function(*arguments)

    process = get_context('fork').Process(target=main)
    # Block Ctrl-C while Python forks: handlers that libraries run at a fork would swallow it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return process


def origin() -> str:
    """Digest of configs, weights, code and data; a run with another digest is repeated."""
    digest = hashlib.sha256((DATA / 'digits.json').read_bytes())
    for name in ('configs', 'toast_mm', 'tools', 'requirements'):
        for path in sorted((ROOT / name).rglob('*')):
            if path.is_file() and path.suffix != '.pyc':
                digest.update(path.read_bytes())
    return digest.hexdigest()


def is_done(job: str, origin: str) -> bool:
    """Whether a config has been run; if not, prepare its folder."""
    out = folder(job)
    note = out / 'quickstart.origin'
    if out.exists() and not note.exists():
        out.rename(out.with_name(f'{out.name}.{time.strftime("%Y%m%d_%H%M%S")}'))
        say(f'{out} was not made by this script; it is kept with the date added to its name')
    elif out.exists() and note.read_text() != origin:
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(origin)
    return (out / 'metrics.json').exists()


def run_all(jobs: Sequence[str], cores: int) -> None:
    """Run several configs in parallel, each with its share of the cores."""
    if not jobs:
        return
    workers = min(len(jobs), cores)
    waiting = list(jobs)
    running: dict[str, tuple[BaseProcess, float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                log = folder(job) / 'quickstart.log'
                running[job] = start(run_job, job, cores // workers, log=log), time.time()
            connection.wait([process.sentinel for process, _ in running.values()], timeout=1)
            show_counters(running)
            for job, (process, begin) in list(running.items()):
                if process.exitcode is None:
                    continue
                del running[job]
                if process.exitcode:
                    fail(job)
                say(f'{TITLES[job]}: {time.time() - begin:.0f} s')
    finally:
        for process, _ in running.values():
            process.terminate()  # the next call resumes from its newest checkpoint
            process.join()


def show_counters(jobs: Sequence[str]) -> None:
    """Show the progress of the running configs, if the output is a terminal."""
    if not sys.stdout.isatty():
        return
    shown = []
    for job in jobs:
        counted = COUNTER.findall((folder(job) / 'quickstart.log').read_text(errors='replace'))
        if counted:
            shown.append(f'{TITLES[job]} {counted[-1][0]}, {counted[-1][1]} left')
    print('\r\033[K' + '; '.join(shown), end='\r', flush=True)


def fail(job: str) -> None:
    log = (folder(job) / 'quickstart.log').resolve()
    print(f'quickstart: {TITLES[job]} failed; the end of {log}:', file=sys.stderr)
    print('\n'.join(log.read_text(errors='replace').splitlines()[-15:]), file=sys.stderr)
    sys.exit(1)


def table() -> str:
    lines = [f'{"on test images":<36}{"linear probe":>12}{"TOAST":>12}']
    for jobs, (title, metric) in METRICS.items():
        values = [
            json.loads((folder(f'{method}-{jobs}') / 'metrics.json').read_text())[metric]
            for method in ('linear', 'toast')
        ]
        lines.append(f'{title:<36}{values[0]:>12.1f}{values[1]:>12.1f}')
    return '\n'.join(lines)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    try:
        data = start(make_data)
        # Import in the meantime, once for all: the processes of the jobs are forks of this one.
        import toast_mm.datasets
        import toast_mm.engine
        import toast_mm.visualization  # noqa: F401

        data.join()
        if data.exitcode:
            sys.exit(data.exitcode)
        here = origin()
        run_all([job for job in TITLES if not is_done(job, here)], cores or 1)
    except KeyboardInterrupt:
        print('\nquickstart: interrupted; call it again to continue', file=sys.stderr)
        sys.exit(130)
    print(f'\n{table()}\n\nWhere the model looks, before and after steering:')
    for jobs in METRICS:
        print(f'  {(folder(f"toast-{jobs}") / "attention.png").resolve()}')


if __name__ == '__main__':
    main()
