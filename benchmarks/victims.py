"""The jobs that reliability.py kills, and what they must end with."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from forks import ToolProcess
from small_jobs import EPOCHS, write_config

from toast_mm.checkpoint import load_from_local
from toast_mm.engine.resumption import latest_checkpoint
from toast_mm.experiments.sweep import read_records


def digest(value: Any) -> str:
    """SHA-256 of tensors and values in dicts and lists."""
    sha = hashlib.sha256()

    def add(item: Any) -> None:
        if isinstance(item, dict):
            for key in sorted(item, key=str):
                sha.update(f'{key}:'.encode())
                add(item[key])
        elif isinstance(item, (list, tuple)):
            for part in item:
                add(part)
        elif isinstance(item, torch.Tensor):
            sha.update(item.contiguous().numpy().tobytes())
        else:
            sha.update(f'{item!r};'.encode())

    add(value)
    return sha.hexdigest()


def weights_of(folder: Path, epochs: int) -> dict[str, Any]:
    """Final weights, optimizer state, and names of the checkpoints of a training."""
    work_dir = folder / 'work'
    checkpoint = load_from_local(str(work_dir / f'epoch_{epochs}.pth'))
    state = {key: checkpoint[key] for key in ('state_dict', 'optimizer', 'param_schedulers')}
    return state | {'names': sorted(path.name for path in work_dir.glob('*.pth'))}


def cache_of(folder: Path) -> dict[str, Any]:
    """Content of the caches, and what was trained on them."""
    caches = folder / 'caches'
    files = {
        str(path.relative_to(caches)): path.read_bytes()
        for path in sorted(caches.rglob('*'))
        if path.is_file() and path.suffix != '.lock'
    }
    return weights_of(folder, 1) | files


def records_of(folder: Path) -> dict[str, Any]:
    """Records of a sweep without their times, and its table."""
    records = {}
    for record in read_records(folder / 'work' / 'runs.jsonl'):
        del record['seconds']
        records[record['name']] = record
    return records | {'table': (folder / 'work' / 'table.md').read_text()}


def newest_checkpoint(folder: Path) -> Path | None:
    name = latest_checkpoint(str(folder / 'work'))
    return Path(name) if name else None


def cached_stream(folder: Path) -> Path | None:
    """A stream of the training data, whose cache is the first.

    That of the validation data is not read again once the validation is done, nor repaired then.
    """
    streams = folder.glob('caches/*/[0-9]*.npy')
    return min(streams, key=lambda path: path.stat().st_mtime, default=None)


def existing_records(folder: Path) -> Path | None:
    path = folder / 'work' / 'runs.jsonl'
    return path if path.exists() else None


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


@dataclass(frozen=True)
class Job:
    """What is killed: the kind of its config, its tool, its result, and a file to cut."""

    kind: str
    result: Callable[[Path], dict[str, Any]]
    to_cut: Callable[[Path], Path | None]
    tool: str = 'train'
    processes: int = 1

    def start(
        self, images: Path, folder: Path, prepare: Callable[[], None] | None = None
    ) -> list[ToolProcess]:
        """Start the job in a folder or continue it."""
        arguments = [str(write_config(self.kind, images, folder))]
        arguments += ['--out-dir'] if self.tool == 'sweep' else ['--resume', '--work-dir']
        arguments += [str(folder / 'work')]
        if self.processes == 1:
            return [ToolProcess(self.tool, arguments, prepare=prepare)]
        group = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=free_port())
        ranks = [
            group | dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(self.processes))
            for rank in range(self.processes)
        ]
        arguments += ['--launcher', 'pytorch']
        return [ToolProcess(self.tool, arguments, rank, prepare) for rank in ranks]


TRAINING = Job('training', partial(weights_of, epochs=EPOCHS), newest_checkpoint)
PAIR = Job('training', TRAINING.result, newest_checkpoint, processes=2)
JOBS = {
    'training': TRAINING,
    'sweep': Job('sweep', records_of, existing_records, tool='sweep'),
    'cache': Job('cache', cache_of, cached_stream),
    'two processes': PAIR,
}
