"""Base class of the hooks of this project."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from toast_mm.keys import check_reader_of


class SingleHook(Hook):
    """A hook that a run may have only once, under any Runner.

    It also checks that the Runner reads all top-level keys of this project.

    Raises:
        ValueError: The hook is given twice, or the Runner ignores a key; the message names it.
    """

    def before_run(self, runner: Runner) -> None:
        """Check the other hooks and the config."""
        name = type(self).__name__
        if sum(type(hook) is type(self) for hook in runner.hooks) > 1:
            raise ValueError(f'toast_mm.{name} is given twice: name it once in custom_hooks')
        check_reader_of(runner)
