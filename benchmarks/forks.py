"""Tools that run in forks of this process, and ways to end them.

A fork has imported everything already, so a tool starts in a fraction of a second.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import wait
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
_FORK = multiprocessing.get_context('fork')
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = ('os.rename', 'os.remove', 'os.mkdir', 'os.rmdir', 'os.truncate')
_GRACE = 30.0  # seconds, as of torchrun
_PIPE_BYTES = 2**20  # nobody reads the output of a tool before it has ended


def import_everything(*tools: str) -> None:
    """Import what the tools need, and leave out what takes long and changes no training.

    That is the formatting of the config and the description of the machine in the log.
    """
    for module in ('datasets', 'evaluation', 'models', 'visualization'):
        import_module(f'mmpretrain.{module}')
    for tool in tools:
        runpy.run_path(str(ROOT / 'tools' / f'{tool}.py'), run_name='imported')
    mock.patch('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, False)).start()
    mock.patch('mmengine.runner.runner.collect_env', dict).start()


@dataclass
class FileEvents:
    """Counts the changes of files below a folder, and may send a signal right before one.

    Attributes:
        folder: The folder.
        number: The signal comes before this change, counted from 0; None for no signal.
        signal: The signal.
    """

    folder: Path
    number: int | None = None
    signal: int = signal.SIGKILL

    def __post_init__(self) -> None:
        self.count = _FORK.Value('i', 0)

    def __call__(self) -> None:
        """Start counting, in this process until its end."""
        sys.addaudithook(self._event)

    def _event(self, event: str, args: tuple) -> None:
        if event not in _CHANGES and not (event == 'open' and args[2] & _WRITING):
            return
        if not str(args[0]).startswith(str(self.folder)):
            return
        self.count.value += 1
        if self.count.value - 1 == self.number:
            os.kill(os.getpid(), self.signal)


def limit_files(size: int) -> None:
    """Let files of this process not grow over a size in bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


class ToolProcess:
    """A tool that runs in a fork.

    Args:
        tool: Its name, such as ``'train'``.
        arguments: Its command line.
        environment: Environment variables.
        prepare: Called in the fork before the tool.
    """

    def __init__(
        self,
        tool: str,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self._output, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        os.set_blocking(self._output, False)
        self.process = _FORK.Process(
            target=_run, args=(tool, arguments, environment or {}, prepare, writing)
        )
        self.process.start()
        os.close(writing)

    def signal_after(self, cpu_seconds: float, number: int) -> None:
        """Send a signal after some CPU time, unless the tool has ended."""
        while self.process.is_alive():
            if _cpu_seconds(self.process.pid) >= cpu_seconds:
                os.kill(self.process.pid, number)
                break
            time.sleep(0.003)

    def end(self, timeout: float) -> int | None:
        """Wait for the end: the exit status, negative for a signal; None if it had to be killed."""
        self.process.join(timeout)
        status = self.process.exitcode
        if status is None:
            self.process.kill()
            self.process.join()
        return status

    def output(self) -> str:
        """What the tool printed, after its end."""
        parts = []
        try:
            while part := os.read(self._output, _PIPE_BYTES):
                parts.append(part)
        except BlockingIOError:  # a process of the tool lives on
            pass
        os.close(self._output)
        return b''.join(parts).decode(errors='replace')


def _cpu_seconds(pid: int) -> float:
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf('SC_CLK_TCK')


def cpu_seconds_of_children() -> float:
    """CPU time of all forks that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _run(
    tool: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    prepare: Callable[[], None] | None,
    output: int,
) -> None:
    for stream in (1, 2):
        os.dup2(output, stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by jobs in the background
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.update(environment)
    script = str(ROOT / 'tools' / f'{tool}.py')
    sys.argv = [script, *arguments]
    if prepare is not None:
        prepare()
    runpy.run_path(script, run_name='__main__')


def end_group(processes: Sequence[ToolProcess], timeout: float) -> list[int | None]:
    """Wait for the end of a job. If a process fails, the others are ended as torchrun does it.

    Returns:
        The results of :meth:`ToolProcess.end`.
    """
    deadline = time.monotonic() + timeout
    running = [one.process for one in processes]
    while running and time.monotonic() < deadline:
        wait([process.sentinel for process in running], deadline - time.monotonic())
        if any(process.exitcode for process in running):
            deadline = time.monotonic() + _GRACE
            for process in running:
                process.terminate()
            break
        running = [process for process in running if process.is_alive()]
    return [one.end(max(0.0, deadline - time.monotonic())) for one in processes]
