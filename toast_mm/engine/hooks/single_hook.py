"""What all hooks of this project check before a run."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from toast_mm.keys import check_reader_of


class SingleHook(Hook):
    """A hook that a run has once, under whatever Runner.

    It also refuses top-level keys of this project that the Runner does not read.

    Raises:
        ValueError: The hook is there twice, or nobody reads a key; names the hook or the key.
    """

    def before_run(self, runner: Runner) -> None:
        """Look at the other hooks and at the config."""
        name = type(self).__name__
        if sum(type(hook) is type(self) for hook in runner.hooks) > 1:
            raise ValueError(f'toast_mm.{name} is there twice: name it in custom_hooks once')
        check_reader_of(runner)
