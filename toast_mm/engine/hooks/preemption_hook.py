"""Saving a training before its process is taken away."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.runner import EpochBasedTrainLoop, Runner

from toast_mm.datasets import DefaultSampler
from toast_mm.engine.hooks.checkpoint_hook import CheckpointHook
from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.engine.resumption import latest_checkpoint
from toast_mm.registry import HOOKS

SEEN = 'seen_of_epoch'  # samples of the interrupted epoch, of all processes, in a checkpoint


class Preempted(KeyboardInterrupt):
    """A training has left after a signal.

    Args:
        number: The signal.
        saved: Whether it has saved a checkpoint since it started, so that it can be started again.

    Attributes:
        status: What a process is to end with: 128 + signal, as if the signal had ended it, or 1 if
            starting it again would get no further.
    """

    def __init__(self, number: signal.Signals, saved: bool) -> None:
        super().__init__(number.name)
        self.status = 128 + number if saved else 1


@HOOKS.register_module()
class PreemptionHook(SingleHook):
    """Save the state of a training when a signal asks it to leave, and leave.

    Schedulers of clusters send such a signal some time before they kill a job. The training
    finishes its iteration, saves ``interrupted.pth`` and raises :class:`Preempted`. It resumes from
    there, also in the middle of an epoch. If only one of several processes gets the
    signal, all of them leave. Further signals change nothing: a launcher passes on a signal that
    the scheduler has sent to its processes as well.

    During a validation the signal waits for the next training iteration. A training by epochs whose
    sampler is not ``toast_mm.DefaultSampler`` cannot resume in the middle of an epoch: it
    leaves without saving. All processes leave together, when process 0 has saved.
    ``toast_mm.Runner`` always adds this hook.

    Args:
        signals: Names of the signals. Defaults to ``('SIGTERM', 'SIGUSR1')``.

    Raises:
        ValueError: There is no such signal.
        Preempted: In the training, after the signal.
    """

    priority = 'LOWEST'  # after hooks that change the state at the end of an iteration

    def __init__(self, signals: Sequence[str] = ('SIGTERM', 'SIGUSR1')) -> None:
        for name in signals:
            if name not in signal.Signals.__members__:
                raise ValueError(f'PreemptionHook: signals={name!r} is no signal of this system')
        self.signals = [signal.Signals[name] for name in signals]
        self._received = 0
        self._start: tuple[str, int] | None = None
        self._former: dict[signal.Signals, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Listen to the signals. Only the main thread of a process can."""
        self._received = 0
        self._start = _newest(runner.work_dir)
        for loop in (runner.train_loop, runner.val_loop):
            if loop is not None:
                loader = loop.dataloader
                start = partial(_outlive_signals, loader.worker_init_fn, self.signals)
                loader.worker_init_fn = start
        try:
            for number in self.signals:
                self._former[number] = signal.signal(number, self._note)
        except ValueError:
            runner.logger.info('PreemptionHook listens to no signals outside the main thread')

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number

    def restore(self) -> None:
        """Give the signals back to those who listened before."""
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}

    def after_train_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Leave if any process got a signal."""
        received = torch.tensor(self._received)
        if runner.distributed:
            all_reduce(received, 'max')
        if received:
            self._leave(runner, batch_idx, signal.Signals(int(received)))

    def _leave(self, runner: Runner, batch_idx: int, received: signal.Signals) -> None:
        saving = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
        if not saving:
            kept = 'nothing is saved, since the run has no toast_mm.CheckpointHook'
        elif not _note_place(runner, batch_idx):
            sampler = type(runner.train_dataloader.sampler).__name__
            kept = f'nothing is saved, since {sampler} cannot resume in the middle of an epoch'
        else:
            kept = f'{saving[0].save_interrupted(runner)} is saved; resume=True continues from it'
        saved = self._has_saved(runner)
        if not saved:
            kept += (
                ', and there is no other checkpoint since the start: another start would get no '
                'further in the same time. Save more often (default_hooks.checkpoint.interval)'
            )
        runner.logger.warning(f'{received.name} after {runner.iter + 1} iterations: {kept}')
        raise Preempted(received, saved)

    def _has_saved(self, runner: Runner) -> bool:
        """Whether there is another checkpoint than at the start. All wait for process 0 to save."""
        saved = torch.tensor(int(is_main_process() and _newest(runner.work_dir) != self._start))
        if runner.distributed:
            all_reduce(saved, 'max')
        return bool(saved)

    def after_train(self, runner: Runner) -> None:
        """Listen no more."""
        self.restore()


def _newest(work_dir: str) -> tuple[str, int] | None:
    """The checkpoint that a training would resume from, and when it was written."""
    newest = latest_checkpoint(work_dir)
    return None if newest is None else (newest, os.stat(newest).st_mtime_ns)


def _outlive_signals(
    initialise: Callable[[int], None] | None, signals: Sequence[signal.Signals], worker: int
) -> None:
    """Let a process that loads data live for another minute after a signal of a scheduler.

    Some schedulers send their signal to all processes of a job. A training whose loading ends
    cannot finish its iteration. A signal of the training itself ends the process at once.
    """
    if hasattr(signal, 'sigwaitinfo'):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        threading.Thread(target=_wait_for_end, args=(signals, os.getppid()), daemon=True).start()
    if initialise is not None:
        initialise(worker)


def _wait_for_end(signals: Sequence[signal.Signals], training: int) -> None:
    received: signal.struct_siginfo | None = signal.sigwaitinfo(signals)
    end = time.monotonic() + 60
    while received is not None and received.si_pid != training:
        received = signal.sigtimedwait(signals, max(0, end - time.monotonic()))
    os._exit(0)


def _note_place(runner: Runner, batch_idx: int) -> bool:
    """Note in checkpoints what the training has seen of its epoch; False if it cannot resume."""
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        return True
    loader = runner.train_dataloader
    if not isinstance(loader.sampler, DefaultSampler) or loader.batch_size is None:
        return False
    seen = loader.sampler.seen + (batch_idx + 1) * loader.batch_size
    runner.message_hub.update_info(SEEN, seen * runner.world_size)
    return True
