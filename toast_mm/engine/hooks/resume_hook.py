"""Exact resumption of a training."""

from __future__ import annotations

import copy
import warnings
from typing import Any

from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner

from toast_mm.checkpoint import CheckpointError
from toast_mm.datasets import DefaultSampler
from toast_mm.engine.hooks.preemption_hook import SEEN
from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.engine.model import unwrap
from toast_mm.engine.resumption import check_state, check_tuned, find_start, loaded_file
from toast_mm.engine.settings import differences, read_settings
from toast_mm.registry import HOOKS

# mmengine takes these from the checkpoint and ignores the config.
_KEPT = ('optim_wrapper.optimizer', 'optim_wrapper.paramwise_cfg', 'param_scheduler')
_COMPARED = ('optim_wrapper', 'param_scheduler', 'train_cfg', 'train_dataloader', 'model')


@HOOKS.register_module()
class ResumeHook(SingleHook):
    """Resume a training as if it had not been interrupted.

    - Accumulated gradients (``accumulative_counts``) are saved and restored, in a training of one
      process.
    - The training resumes from the newest complete checkpoint. A checkpoint without the state of a
      training, or of a training that tuned other parameters, is an error.
    - If the config has no seed, the samplers use the seed of the checkpoint.
    - A checkpoint of an epoch is saved before its validation. If the validation is missing, it is
      run again, so that best checkpoints, early stopping and all else that depends on validations
      continue correctly.
    - A checkpoint of :class:`PreemptionHook` may be from the middle of an epoch. The training then
      continues with the samples that it has not seen in this epoch.
    - Settings that have changed since the checkpoint are logged. mmengine continues with the
      optimizer and schedule of the checkpoint; ``settings='config'`` uses those of the config.

    ``toast_mm.Runner`` always adds this hook. Under another Runner it must be the last of
    ``custom_hooks``.

    Args:
        settings: Where a resumed training takes learning rate, weight decay and schedule from:
            ``'checkpoint'`` or ``'config'``. The schedule of the config is advanced to the
            iteration of the checkpoint. Defaults to ``'checkpoint'``.

    Raises:
        CheckpointError: The checkpoint has no training state, or the state of another optimizer.
    """

    priority = 'LOWEST'  # validation needs other hooks' before_train

    def __init__(self, settings: str = 'checkpoint') -> None:
        if settings not in ('checkpoint', 'config'):
            raise ValueError(f"resume_settings={settings!r} must be 'checkpoint' or 'config'")
        self.settings = settings
        self._gradients: dict[str, Any] = {}
        self._seen = 0
        self._asked: tuple[list[dict], list[dict]] = ([], [])

    def before_run(self, runner: Runner) -> None:
        """Find the checkpoint to resume if none is named."""
        super().before_run(runner)
        find_start(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Save accumulated gradients."""
        wrapper = runner.optim_wrapper
        if (
            'optimizer' in checkpoint
            and isinstance(wrapper, OptimWrapper)
            and wrapper._accumulative_counts > 1
            and not runner.distributed
        ):
            named = unwrap(runner.model).named_parameters()
            checkpoint['gradients'] = {n: p.grad.cpu() for n, p in named if p.grad is not None}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare the settings of the checkpoint with those of the config."""
        if not runner._resume:
            return
        check_state(runner, checkpoint)
        self._gradients = checkpoint.get('gradients', {})
        if self._gradients:  # hide mmengine's warning, which is not true here
            runner.logger.addFilter(lambda record: _LOST not in record.getMessage())
        if self.settings == 'config':
            if not isinstance(runner.optim_wrapper, OptimWrapper):
                raise ValueError("resume_settings='config' needs a training with one optimizer")
            self._asked = (
                [_plain(group) for group in runner.optim_wrapper.param_groups],
                [copy.deepcopy(s.state_dict()) for s in runner.param_schedulers or []],
            )
        try:
            former = read_settings(checkpoint['meta'].get('cfg', ''))
        except (SyntaxError, TypeError) as error:
            runner.logger.warning(f'the settings of the checkpoint cannot be read: {error}')
        else:
            present = read_settings(runner.cfg.pretty_text)
            if former and present:
                self._tell(runner, former, present)
        check_tuned(runner, checkpoint)

    def _tell(self, runner: Runner, former: dict, present: dict) -> None:
        changed = [
            change
            for key in _COMPARED
            for change in differences(former.get(key), present.get(key), key)
        ]
        for name, old, new in changed:
            if name == 'optim_wrapper.optimizer.type':
                raise CheckpointError(
                    f'{loaded_file(runner) or "the checkpoint"} has the state of the optimizer '
                    f'{old}, which does not fit {new} of the config; resume it with {old}, or '
                    'start from its weights: --cfg-options load_from=CHECKPOINT, and another '
                    '--work-dir'
                )
        kept = [change for change in changed if change[0].startswith(_KEPT)]
        applied = [change for change in changed if change not in kept]
        if kept and self.settings == 'checkpoint':
            texts = (f'{name}={old!r} is kept, the config has {new!r}' for name, old, new in kept)
            runner.logger.warning(
                f'settings that have changed since the checkpoint are not applied: '
                f'{"; ".join(texts)}. To continue with those of the config use --cfg-options '
                'resume_settings=config; to start from the weights only, load_from=CHECKPOINT and '
                'another --work-dir'
            )
        elif kept:
            applied = changed
        if applied:
            texts = (f'{name}={new!r} (was {old!r})' for name, old, new in applied)
            runner.logger.warning(f'changed since the checkpoint: {"; ".join(texts)}')
        length = any(name.startswith('train_cfg.max_') for name, _, _ in changed)
        if length and not any(name.startswith('param_scheduler') for name, _, _ in changed):
            runner.logger.warning(
                'the length of the training has changed, but param_scheduler has not: after its '
                'end the learning rate is constant'
            )

    def before_train(self, runner: Runner) -> None:
        """Restore seed, gradients and settings, and run a missing validation."""
        if not runner._resume:
            return
        sampler = runner.train_dataloader.sampler
        if hasattr(sampler, 'seed'):  # built before the checkpoint was loaded
            sampler.seed = runner.seed
        for name, parameter in unwrap(runner.model).named_parameters():
            if name in self._gradients:
                parameter.grad = self._gradients[name].to(parameter)
        self._gradients = {}
        if self.settings == 'config':
            self._apply(runner)
        known = runner.message_hub.runtime_info.get('last_validation')
        self._seen = runner.message_hub.pop_info(SEEN, 0) // runner.world_size
        if known != runner.iter and not self._seen and _validates(runner.train_loop):
            runner.logger.info('Running the validation that the checkpoint lacks:')
            runner.val_loop.run()

    def before_train_epoch(self, runner: Runner) -> None:
        """Leave out what the training has seen of an interrupted epoch."""
        sampler = runner.train_dataloader.sampler
        if isinstance(sampler, DefaultSampler):
            sampler.seen, self._seen = self._seen, 0

    def before_val_epoch(self, runner: Runner) -> None:
        """Note the validation in checkpoints that are saved from now on."""
        runner.message_hub.update_info('last_validation', runner.iter)

    def _apply(self, runner: Runner) -> None:
        """Apply the settings of the config, with schedules advanced to the current iteration."""
        groups, schedules = self._asked
        for group, asked in zip(runner.optim_wrapper.param_groups, groups, strict=True):
            group.update(asked)
        for schedule, asked in zip(runner.param_schedulers or [], schedules, strict=True):
            schedule.load_state_dict(asked)
        # Schedules that follow metrics start anew.
        stepped = [s for s in runner.param_schedulers or [] if not getattr(s, 'need_val_args', 0)]
        by_iter = [s for s in stepped if not s.by_epoch]
        by_epoch = [s for s in stepped if s.by_epoch]
        epochs = runner.epoch or 1
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # schedules warn if they step without the optimizer
            for epoch in range(epochs):
                for _ in range(runner.iter * epoch // epochs, runner.iter * (epoch + 1) // epochs):
                    for schedule in by_iter:
                        schedule.step()
                for schedule in by_epoch if runner.epoch else []:
                    schedule.step()


_LOST = 'the gradient of some iterations is lost'


def _plain(group: dict) -> dict:
    return {key: copy.deepcopy(value) for key, value in group.items() if key != 'params'}


def _validates(loop: Any) -> bool:
    """Whether the loop validates in the iteration or epoch that it has reached."""
    loop._decide_current_val_interval()
    if loop.runner.val_loop is None:
        return False
    epochs = isinstance(loop, EpochBasedTrainLoop)
    done, length = (loop.epoch, loop.max_epochs) if epochs else (loop.iter, loop.max_iters)
    return done >= max(loop.val_begin, 1) and (done % loop.val_interval == 0 or done == length)
