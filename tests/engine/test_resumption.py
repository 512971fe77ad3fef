"""Which trainings a launcher has started again, and what they note for that."""

import os
import time
from pathlib import Path

import pytest

from toast_mm.engine.resumption import SLURM_NOTE, note_launch, was_restarted

VARIABLES = ('DIST_TRAIN_STARTED', 'SLURM_JOB_ID', 'SLURM_RESTART_COUNT')
REQUEUED = dict(SLURM_JOB_ID='77', SLURM_RESTART_COUNT='1')


def write(path: Path, age: float, text: str = '') -> None:
    """Write a file that is some seconds old."""
    path.write_text(text)
    os.utime(path, 2 * (time.time() - age,))


@pytest.fixture
def start(monkeypatch):
    """Begin with these variables of a launcher: ``start(SLURM_JOB_ID='77')``."""

    def set_variables(**variables: str) -> None:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.mark.parametrize(
    ('age', 'launched', 'noted', 'variables', 'restarted'),
    [
        (10, None, None, {}, False),
        (10, 60, None, {}, True),
        (100, 60, None, {}, False),
        (10, None, ('77', 60), REQUEUED, True),
        (100, None, ('77', 60), REQUEUED, False),
        (10, None, ('77', 60), REQUEUED | dict(SLURM_RESTART_COUNT='0'), False),
        (10, None, ('77', 60), dict(SLURM_JOB_ID='77'), False),
        (10, None, ('7', 60), REQUEUED, False),
        (10, None, None, REQUEUED, False),
        (40, 20, ('77', 60), REQUEUED, True),  # torchrun in a job of Slurm
        (40, 60, ('7', 20), REQUEUED, True),
        (None, 60, ('77', 60), REQUEUED, False),
    ],
)
def test_only_a_checkpoint_of_this_launch_is_resumed(
    age, launched, noted, variables, restarted, start, tmp_path
):
    """Ages of the checkpoint, of the launch by ``dist_train.sh`` and of the note are in seconds."""
    if age is not None:
        write(tmp_path / 'iter_1.pth', age)
    if noted:
        write(tmp_path / SLURM_NOTE, noted[1], noted[0])
    if launched:
        variables = variables | dict(DIST_TRAIN_STARTED=str(time.time() - launched))
    start(**variables)
    assert was_restarted(str(tmp_path)) is restarted


def test_a_job_that_is_queued_again_resumes_once_it_has_saved(start, tmp_path):
    """The folder holds another training, which a job began that had the number 7."""
    checkpoint, folder = tmp_path / 'iter_1.pth', str(tmp_path)
    write(checkpoint, 100)
    write(tmp_path / SLURM_NOTE, 200, '7')
    start(SLURM_JOB_ID='77')
    assert not was_restarted(folder)
    note_launch(folder)
    start(**REQUEUED)
    assert not was_restarted(folder), 'it was queued again before its first checkpoint'
    note_launch(folder)
    write(checkpoint, -10)
    start(**REQUEUED | dict(SLURM_RESTART_COUNT='2'))
    assert was_restarted(folder)
    note = (tmp_path / SLURM_NOTE).stat().st_mtime_ns
    note_launch(folder)
    assert (tmp_path / SLURM_NOTE).stat().st_mtime_ns == note, 'its checkpoints would be too old'
    start(SLURM_JOB_ID='78')
    note_launch(folder)
    start(SLURM_JOB_ID='78', SLURM_RESTART_COUNT='1')
    os.utime(checkpoint, 2 * (time.time() - 5,))
    assert not was_restarted(folder), 'another job'


def test_nothing_is_noted_outside_slurm(start, tmp_path):
    start()
    note_launch(str(tmp_path))
    assert not list(tmp_path.iterdir())
