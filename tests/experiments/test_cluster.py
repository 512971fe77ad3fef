"""Runs of a sweep as jobs of a cluster: a fake scheduler, and submitit's for one machine."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from extras import is_installed

from toast_mm.engine.config import ConfigError
from toast_mm.experiments import Run, run_all
from toast_mm.experiments.cluster import Cluster, JobError
from toast_mm.experiments.sweep import Trained

OPTIONS = dict(slurm_partition='gpu', gpus_per_node=1, timeout_min=90)


class Scheduler:
    """A scheduler whose jobs end when somebody looks at them for the second time."""

    def __init__(self) -> None:
        self.parameters: dict = {}
        self.submitted: list[str] = []  # names of runs
        self.jobs: dict[str, FakeJob] = {}
        self.most = 0  # jobs at a time

    def running(self) -> int:
        return sum(not job.ended for job in self.jobs.values())


class FakeJob:
    """A job of the scheduler."""

    def __init__(self, scheduler, number, function, arguments) -> None:
        self.scheduler, self.job_id = scheduler, number
        self.function, self.arguments = function, arguments
        self.ended = self.cancelled = False
        self.looks = 0
        self.failure: Exception | None = None

    def done(self) -> bool:
        self.looks += 1
        self.scheduler.most = max(self.scheduler.most, self.scheduler.running())
        if self.looks == 2:
            self.ended = True
            try:
                self.outcome = self.function(*self.arguments)
            except ValueError as error:
                self.failure = RuntimeError(f'with trace: {error}')
        return self.ended or self.cancelled

    def exception(self) -> Exception | None:
        return RuntimeError('never completed') if self.cancelled else self.failure

    def result(self):
        return self.outcome

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def scheduler(monkeypatch) -> Scheduler:
    """In place of submitit and Slurm."""
    scheduler = Scheduler()

    class AutoExecutor:
        def __init__(self, folder, cluster) -> None:
            assert Path(folder).is_dir() and cluster == 'slurm'

        def update_parameters(self, **options) -> None:
            if 'partition' in options:
                raise NameError("Parameter 'partition' need to be prefixed")
            scheduler.parameters = options

        def submit(self, function, *arguments) -> FakeJob:
            number = str(len(scheduler.jobs))
            scheduler.submitted.append(arguments[0].name)
            scheduler.jobs[number] = FakeJob(scheduler, number, function, arguments)
            return scheduler.jobs[number]

    def find(folder, job_id) -> FakeJob:
        return scheduler.jobs[job_id]

    fake = SimpleNamespace(AutoExecutor=AutoExecutor, SlurmJob=find, LocalJob=None)
    monkeypatch.setitem(sys.modules, 'submitit', fake)
    monkeypatch.setattr('toast_mm.experiments.cluster.POLL', 0)
    monkeypatch.setattr('toast_mm.experiments.sweep._train', _train)
    return scheduler


def _train(run: Run, work_dir: str) -> Trained:
    """In place of a training: its seed is its metric."""
    if run.seed == 13:
        raise ValueError('an unlucky number')
    return Trained({'top1': run.seed}, 1, 2.0)


def runs(config: str, *seeds: int) -> list[Run]:
    return [Run(f'job/{seed}', config, seed=seed) for seed in seeds]


def recorded(folder: Path) -> list[str]:
    file = folder / 'runs.jsonl'
    return [json.loads(line)['name'] for line in file.read_text().splitlines() if line]


def test_every_run_is_a_job_and_is_recorded_once(scheduler, config, tmp_path):
    found = run_all(runs(config, 1, 2, 3), str(tmp_path), 2, cluster=OPTIONS)
    assert found == {'job/1': {'top1': 1}, 'job/2': {'top1': 2}, 'job/3': {'top1': 3}}
    assert scheduler.parameters == OPTIONS
    assert scheduler.most == 2
    assert recorded(tmp_path) == scheduler.submitted == list(found)
    assert run_all(runs(config, 1, 2, 3), str(tmp_path), 2, cluster=OPTIONS) == found
    assert len(scheduler.submitted) == 3


def test_jobs_of_a_killed_sweep_are_taken_over(scheduler, config, tmp_path):
    """One has ended, one still runs, one is of a config that has changed since."""
    first = Cluster(tmp_path / 'jobs', OPTIONS)
    run_all(runs(config, 1), str(tmp_path), cluster=OPTIONS)
    (tmp_path / 'runs.jsonl').unlink()
    numbers = json.loads((tmp_path / 'jobs' / 'jobs.json').read_text())
    (key,) = numbers
    running = first.submit(key.replace('job/1', 'job/2'), _train, runs(config, 2)[0], '')
    first.submit('job/3 of another config', _train, runs(config, 3)[0], '')
    assert not running.ended
    found = run_all(runs(config, 1), str(tmp_path), cluster=OPTIONS)
    assert found == {'job/1': {'top1': 1}} and scheduler.submitted.count('job/1') == 1
    again = first.submit(key.replace('job/1', 'job/2'), _train, runs(config, 2)[0], '')
    assert again is running
    run_all(runs(config, 3), str(tmp_path), cluster=OPTIONS)
    assert scheduler.submitted == ['job/1', 'job/2', 'job/3', 'job/3']


def test_a_failed_job_ends_the_sweep_and_is_repeated_by_the_next(
    scheduler, config, tmp_path, monkeypatch
):
    with pytest.raises(JobError, match=r'job/13 failed in job 0: with trace: an unlucky number'):
        run_all(runs(config, 13, 1, 2), str(tmp_path), 2, cluster=OPTIONS)
    assert recorded(tmp_path) == ['job/1'], 'what runs beside it is recorded; no other begins'
    monkeypatch.setattr('toast_mm.experiments.sweep._train', lambda *_: Trained({'top1': 0}, 1, 1))
    found = run_all(runs(config, 13, 1), str(tmp_path), 2, cluster=OPTIONS)
    assert found == {'job/1': {'top1': 1}, 'job/13': {'top1': 0}}


def test_jobs_of_an_interrupted_sweep_are_cancelled(scheduler, config, tmp_path, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeJob, 'done', lambda job: False)
    monkeypatch.setattr('toast_mm.experiments.cluster.time.sleep', interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_all(runs(config, 1, 2, 3), str(tmp_path), 2, cluster=OPTIONS)
    assert [job.cancelled for job in scheduler.jobs.values()] == [True, True]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(OPTIONS, partition='gpu'), "submitit does not take .* 'partition' need to be prefix"),
        (dict(gpus_per_node=1), 'jobs need timeout_min'),
        (dict(OPTIONS, cluster='k8s'), "cluster='k8s' of jobs must be 'slurm' or 'local'"),
        (
            dict(OPTIONS, cluster=['local']),
            r"cluster=\['local'\] of jobs must be 'slurm' or 'local'",
        ),
        (dict(OPTIONS, cluster=None), "cluster=None of jobs must be 'slurm' or 'local'"),
        ({**OPTIONS, 3: 4}, r'submitit does not take .*3: 4.* for slurm: .*must be strings'),
        (dict(OPTIONS, timeout_min=None), 'jobs need timeout_min'),
    ],
)
def test_wrong_options(scheduler, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        Cluster(tmp_path / 'jobs', options)


@pytest.mark.parametrize(
    ('content', 'why'),
    [
        ('{"job/1 abc": "0", "job', 'Unterminated string'),
        ('', 'Expecting value'),
        ('[1, 2]', 'cannot convert'),
        ('null', 'not iterable'),
        ('{"job/1 abc": 7}', 'the number of a job must be a text'),
        (b'{"\xff": "0"}', "can't decode byte 0xff"),
    ],
)
def test_a_damaged_list_of_jobs_is_named(scheduler, config, tmp_path, content, why):
    file = tmp_path / 'jobs' / 'jobs.json'
    file.parent.mkdir()
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(JobError, match=rf'^{file} is damaged .*{why}.*delete this file'):
        run_all(runs(config, 1), str(tmp_path), cluster=OPTIONS)
    assert not scheduler.jobs
    file.unlink()
    assert run_all(runs(config, 1), str(tmp_path), cluster=OPTIONS) == {'job/1': {'top1': 1}}


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'submitit', None)
    with pytest.raises(ConfigError, match=r'pip install "toast_mm\[submitit\]"'):
        Cluster(tmp_path / 'jobs', OPTIONS)


@pytest.mark.slow
@pytest.mark.skipif(
    not is_installed('submitit'), reason='needs the extra: pip install "toast_mm[submitit]"'
)
def test_a_job_of_submitit_gives_the_same_as_a_run_here(config, tmp_path):
    """A process of this machine; its result is found again without another job."""
    training = [Run('run', config, {'optim_wrapper.optimizer.lr': 0.5}, seed=1)]
    here = run_all(training, str(tmp_path / 'here'))
    out, options = tmp_path / 'out', dict(cluster='local', timeout_min=5)
    assert run_all(training, str(out), cluster=options) == here
    record = json.loads((out / 'runs.jsonl').read_text())
    assert record['metrics'] == here['run'] and record['seconds'] > 0
    logs = sorted((out / 'jobs').glob('*_log.out'))
    (out / 'runs.jsonl').unlink()
    assert run_all(training, str(out), cluster=options) == here
    assert sorted((out / 'jobs').glob('*_log.out')) == logs and logs
