"""Early stopping that continues counting when a training is resumed."""

from __future__ import annotations

import mmengine.hooks
from mmengine.runner import Runner

from toast_mm.registry import HOOKS


@HOOKS.register_module()
class EarlyStoppingHook(mmengine.hooks.EarlyStoppingHook):
    """mmengine's ``EarlyStoppingHook``, with its count and best score in the checkpoint.

    mmengine's hook starts counting from zero when a training is resumed.
    ``toast_mm.Runner`` uses this hook if a config names ``EarlyStoppingHook``.
    """

    priority = 'LOW'  # before CheckpointHook, which saves the count

    @property
    def _key(self) -> str:
        return f'early_stopping_{self.monitor}'

    def before_train(self, runner: Runner) -> None:
        """Restore the count of the checkpoint; a training that had stopped remains stopped."""
        state = runner.message_hub.runtime_info.get(self._key) if runner._resume else None
        if state is not None:
            self.wait_count, self.best_score = state['wait_count'], state['best_score']
            runner.train_loop.stop_training = state['stopped']

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Count, and save the count."""
        super().after_val_epoch(runner, metrics)
        state = dict(
            wait_count=self.wait_count,
            best_score=self.best_score,
            stopped=runner.train_loop.stop_training,
        )
        runner.message_hub.update_info(self._key, state)
