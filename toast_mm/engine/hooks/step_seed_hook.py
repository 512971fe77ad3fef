"""Seeding every training step."""

from typing import Any

from mmengine.runner import Runner

from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.registry import HOOKS
from toast_mm.seeding import seed_everything


@HOOKS.register_module()
class StepSeedHook(SingleHook):
    """Make dropout and drop path of step i a function of (seed, i, process).

    A checkpoint holds seed and iteration, and thus the whole random state. A
    resumed run continues like an uninterrupted one, no matter how many random
    numbers data loading and validation drew.
    """

    priority = 'VERY_LOW'  # after all hooks that might draw before the step

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Seed the next step."""
        seed_everything(runner.seed, runner.iter, runner.rank)
