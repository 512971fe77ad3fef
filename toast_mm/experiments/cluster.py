"""Functions as jobs of a cluster, by submitit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from toast_mm.engine.config import ConfigError
from toast_mm.files import write_atomically

POLL = 2.0  # seconds between looks at the jobs; submitit asks the scheduler less often


class JobError(RuntimeError):
    """A job has failed, or cannot be found; the message says which one and why."""


class Cluster:
    """Submits functions as jobs, and finds those of an earlier process again.

    submitit is an extra: ``pip install "toast_mm[submitit]"``. It stores the function, the result
    and the log of a job in ``folder``, which all machines must see. If the process that waits for a
    job is killed, the job goes on; with the same key, another process takes it over.

    Args:
        folder: Folder of the jobs.
        options: Arguments of submitit's ``AutoExecutor.update_parameters``, such as
            ``dict(slurm_partition='gpu', gpus_per_node=1, timeout_min=240)``, and ``cluster``:
            ``'slurm'`` (default), or ``'local'`` for processes of this machine. ``timeout_min`` is
            required: submitit's default is a few minutes.

    Raises:
        ConfigError: submitit is not installed, there is no Slurm, or an option is missing or wrong.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        try:
            import submitit
        except ImportError as error:
            raise ConfigError(
                'jobs of a cluster need the package submitit: pip install "toast_mm[submitit]" '
                f'({error})'
            ) from error
        if options.get('timeout_min') is None:  # which submitit takes for its default
            raise ConfigError(
                'jobs need timeout_min: the minutes after which the scheduler ends a job'
            )
        kinds = dict(slurm=submitit.SlurmJob, local=submitit.LocalJob)
        options = dict(cluster='slurm') | dict(options)
        cluster = options.pop('cluster')
        if cluster not in tuple(kinds):  # also if it has no hash
            raise ConfigError(f"cluster={cluster!r} of jobs must be 'slurm' or 'local'")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._kind = folder, kinds[cluster]
        self._file = folder / 'jobs.json'  # numbers of jobs by their keys
        try:
            self._executor = submitit.AutoExecutor(folder, cluster=cluster)
            self._executor.update_parameters(**options)
        except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(f'submitit does not take {options} for {cluster}: {error}') from error

    def submit(self, key: str, function: Callable, *arguments: Any) -> Any:
        """Submit a job, or find the one with this key that has not failed.

        Raises:
            JobError: The file with the numbers of jobs is damaged.
        """
        numbers = self._numbers()
        if key in numbers:
            job = self._kind(folder=self._folder, job_id=numbers[key])
            if not job.done() or job.exception() is None:
                return job
        job = self._executor.submit(function, *arguments)
        write_atomically(json.dumps({**numbers, key: job.job_id}).encode(), str(self._file))
        return job

    def _numbers(self) -> dict[str, str]:
        """Numbers of the jobs that were submitted, by their keys."""
        if not self._file.exists():
            return {}
        try:
            numbers = json.loads(self._file.read_bytes())
            if not all(isinstance(number, str) for number in dict(numbers).values()):
                raise ValueError('the number of a job must be a text')
        except (TypeError, ValueError) as error:
            raise JobError(
                f'{self._file} is damaged and does not say which jobs were submitted: {error}. '
                'Cancel those that still run, and delete this file; the same command then submits '
                'all runs that have no result yet'
            ) from error
        return numbers

    @staticmethod
    def wait(jobs: Iterable[Any]) -> list[Any]:
        """Wait until a job has ended, and return all that have."""
        jobs = list(jobs)
        while not (ended := [job for job in jobs if job.done()]):
            time.sleep(POLL)
        return ended

    @staticmethod
    def error(name: str, job: Any) -> JobError | None:
        """What went wrong in a job that has ended."""
        failure = job.exception()
        if failure is None:
            return None
        return JobError(f'{name} failed in job {job.job_id}: {failure}')
