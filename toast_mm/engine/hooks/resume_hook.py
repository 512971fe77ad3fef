"""What mmengine forgets when a training is resumed."""

from __future__ import annotations

import copy
import warnings
from typing import Any

from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner

from toast_mm.checkpoint import CheckpointError
from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.engine.model import unwrap
from toast_mm.engine.resumption import check_state, check_tuned, find_start, loaded_file
from toast_mm.engine.settings import differences, read_settings
from toast_mm.registry import HOOKS

# mmengine takes these from the checkpoint, whatever the config says.
_KEPT = ('optim_wrapper.optimizer', 'optim_wrapper.paramwise_cfg', 'param_scheduler')
_COMPARED = ('optim_wrapper', 'param_scheduler', 'train_cfg', 'train_dataloader', 'model')


@HOOKS.register_module()
class ResumeHook(SingleHook):
    """Resume a training as if it had not been interrupted; ``toast_mm.Runner`` has it always.

    - Gradients that wait for others (``accumulative_counts``) are saved and go on waiting, in a
      training of one process.
    - Of several checkpoints the training goes on from the newest whole one; one that holds weights
      alone, or that tuned other parameters, is refused.
    - The samplers of a config without a seed take that of the checkpoint.
    - A checkpoint of an epoch is saved before its validation. If that was not recorded, it is
      made, so that best checkpoint, early stopping and whatever else follows validations go on.
    - Settings that have changed since the checkpoint are told. mmengine goes on with the former
      optimizer and schedule; ``settings='config'`` takes those of the config.

    Under another runner it is the last of ``custom_hooks``.

    Args:
        settings: Whose learning rate, weight decay and schedule a resumed training goes on with:
            ``'checkpoint'``, the default, or ``'config'``, at the point that the schedule of the
            config has in that iteration.

    Raises:
        CheckpointError: The checkpoint has no state of a training, or that of another optimizer.
    """

    priority = 'LOWEST'  # validation needs what other hooks prepare in before_train

    def __init__(self, settings: str = 'checkpoint') -> None:
        if settings not in ('checkpoint', 'config'):
            raise ValueError(f"resume_settings={settings!r} must be 'checkpoint' or 'config'")
        self.settings = settings
        self._gradients: dict[str, Any] = {}
        self._asked: tuple[list[dict], list[dict]] = ([], [])

    def before_run(self, runner: Runner) -> None:
        """Find the checkpoint to resume, where none is named."""
        super().before_run(runner)
        find_start(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Save the gradients that wait for others."""
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
        if self._gradients:  # mmengine warns of what is no longer true
            runner.logger.addFilter(lambda record: _LOST not in record.getMessage())
        if self.settings == 'config':
            if not isinstance(runner.optim_wrapper, OptimWrapper):
                raise ValueError("resume_settings='config' is for trainings of one optimizer")
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
                    f'{loaded_file(runner) or "the checkpoint"} is of a training with the '
                    f'optimizer {old}, whose state says nothing to {new}, which the config asks '
                    f'for; resume it with {old}, or start from its weights: --cfg-options '
                    'load_from=CHECKPOINT, and another --work-dir'
                )
        kept = [change for change in changed if change[0].startswith(_KEPT)]
        applied = [change for change in changed if change not in kept]
        if kept and self.settings == 'checkpoint':
            texts = (f'{name}={old!r} is kept, {new!r} was asked' for name, old, new in kept)
            runner.logger.warning(
                f'settings that have changed since the checkpoint are not applied: '
                f'{"; ".join(texts)}. To go on with those of the config say --cfg-options '
                'resume_settings=config; to start from the weights alone, load_from=CHECKPOINT and '
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
                'the training has another length, but param_scheduler is as it was: beyond its end '
                'the learning rate stays as it is there'
            )

    def before_train(self, runner: Runner) -> None:
        """Bring the training to where it was."""
        if not runner._resume:
            return
        sampler = runner.train_dataloader.sampler
        if hasattr(sampler, 'seed'):  # it was built before the seed of the checkpoint was known
            sampler.seed = runner.seed
        for name, parameter in unwrap(runner.model).named_parameters():
            if name in self._gradients:
                parameter.grad = self._gradients[name].to(parameter)
        self._gradients = {}
        if self.settings == 'config':
            self._apply(runner)
        known = runner.message_hub.runtime_info.get('last_validation')
        if known != runner.iter and _validates(runner.train_loop):
            runner.logger.info('The validation that the checkpoint does not know of:')
            runner.val_loop.run()

    def before_val_epoch(self, runner: Runner) -> None:
        """Note for checkpoints that are saved from here on."""
        runner.message_hub.update_info('last_validation', runner.iter)

    def _apply(self, runner: Runner) -> None:
        """The settings of the config, at the point of their schedule that the training has."""
        groups, schedules = self._asked
        for group, asked in zip(runner.optim_wrapper.param_groups, groups, strict=True):
            group.update(asked)
        for schedule, asked in zip(runner.param_schedulers or [], schedules, strict=True):
            schedule.load_state_dict(asked)
        # Those that follow metrics start anew.
        stepped = [s for s in runner.param_schedulers or [] if not getattr(s, 'need_val_args', 0)]
        by_iter = [s for s in stepped if not s.by_epoch]
        by_epoch = [s for s in stepped if s.by_epoch]
        epochs = runner.epoch or 1
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of schedules that go on without optimizer
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
