"""Finding and checking the checkpoint that a training resumes from."""

from __future__ import annotations

import os
import os.path as osp
import re
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from toast_mm.checkpoint import CheckpointError
from toast_mm.files import write_atomically

SLURM_NOTE = 'slurm_job'  # file in the folder of a training: the job that has begun it, and when


def latest_checkpoint(work_dir: str) -> str | None:
    """Newest checkpoint of a training in a folder, or None.

    This is the one that ``last_checkpoint`` names. If an interruption made
    that file out of date, it is the checkpoint with the highest number.
    """
    folder = Path(work_dir)
    pointer = folder / 'last_checkpoint'
    if pointer.is_file():
        named = pointer.read_text().strip()
        for candidate in (str(folder / osp.basename(named)), named):
            if named and osp.isfile(candidate):
                return candidate
    numbered = {}
    for path in folder.glob('*.pth'):
        if match := re.fullmatch(r'(?:iter|epoch)_(\d+)\.pth', path.name):
            numbered[int(match[1])] = str(path)
    return numbered[max(numbered)] if numbered else None


def was_restarted(work_dir: str) -> bool:
    """Whether a launcher has started this training again after it had saved a checkpoint.

    Then it resumes by itself. Checkpoints from before the launch are those of another training. Two
    launchers start a training again:

    - ``dist_train.sh`` says when it began. torchrun counts restarts, but only on the node whose
      process has died.
    - Slurm does not say when a job began first. So its first start leaves a note
      (:func:`note_launch`).
    """
    newest = latest_checkpoint(work_dir)
    started = [float(os.environ.get('DIST_TRAIN_STARTED', 'inf'))]
    note = Path(work_dir, SLURM_NOTE)
    again = os.environ.get('SLURM_RESTART_COUNT', '0') != '0'
    if again and note.is_file() and note.read_text() == os.environ.get('SLURM_JOB_ID'):
        started.append(note.stat().st_mtime)  # by the clock that checkpoints have, too
    return newest is not None and osp.getmtime(newest) > min(started)


@master_only
def note_launch(work_dir: str) -> None:
    """Note in the folder of a training which Slurm job begins it, if one does.

    Raises:
        WriteError: The note cannot be written.
    """
    job = os.environ.get('SLURM_JOB_ID')
    if job is not None and not was_restarted(work_dir):
        write_atomically(job.encode(), osp.join(work_dir, SLURM_NOTE))


def find_start(runner: Runner) -> None:
    """Make a Runner resume from the newest checkpoint, or start anew if there is none."""
    if runner._resume and runner._load_from is None:
        runner._load_from = latest_checkpoint(runner.work_dir)
        if runner._load_from is None:
            runner._resume = False
            runner.logger.warning(f'no checkpoint to resume in {runner.work_dir}: starting anew')


def check_state(runner: Runner, checkpoint: dict[str, Any]) -> None:
    """Check that a checkpoint holds the state of a training.

    A best checkpoint has no optimizer state: mmengine would continue with a new optimizer and with
    new learning rates.

    Raises:
        CheckpointError: There is no state; the message says how to start from the weights.
    """
    if not {'meta', 'message_hub', 'optimizer'} <= checkpoint.keys():
        raise CheckpointError(
            f'{_name(runner)} holds weights without the state of a training and cannot be resumed; '
            f'to start from these weights use --cfg-options load_from={_name(runner)}, '
            'and another --work-dir'
        )


def check_tuned(runner: Runner, checkpoint: dict[str, Any]) -> None:
    """Check that the training in a checkpoint tuned the same parameters.

    Raises:
        CheckpointError: It did not; the message says how to start from the weights.
    """
    if not isinstance(runner.optim_wrapper, OptimWrapper):
        return
    present = runner.optim_wrapper.optimizer.param_groups
    sizes = (
        [len(group['params']) for group in groups]
        for groups in (checkpoint['optimizer']['param_groups'], present)
    )
    if next(sizes) != next(sizes):
        raise CheckpointError(
            f'{_name(runner)} is of a training that tuned other parameters; resume it with its own '
            f'config, or start from its weights: --cfg-options load_from={_name(runner)}, '
            'and another --work-dir'
        )


def loaded_file(runner: Runner) -> str | None:
    """The checkpoint that a run loads at its start; None of those that a script loads later."""
    return None if runner._has_loaded else runner._load_from


def _name(runner: Runner) -> str:
    return loaded_file(runner) or 'the checkpoint'
