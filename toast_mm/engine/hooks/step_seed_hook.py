"""Random state of a training step."""

from typing import Any

from mmengine.runner import Runner

from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.registry import HOOKS
from toast_mm.seeding import seed_everything


@HOOKS.register_module()
class StepSeedHook(SingleHook):
    """Make dropout and drop path of step i a function of (seed, i, process).

    A checkpoint holds seed and iteration, and with them the whole random state:
    a resumed run goes on as an uninterrupted one, however much randomness data
    loading and validation used in between.
    """

    priority = 'VERY_LOW'  # behind all hooks that might draw before the step

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Seed the step that follows."""
        seed_everything(runner.seed, runner.iter, runner.rank)
