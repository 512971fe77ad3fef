"""Errors for logs and pictures that cannot be written."""

import logging

import mmengine.visualization
from mmengine.runner import Runner

from toast_mm.engine.backends import LocalVisBackend, LogFile
from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.registry import HOOKS


@HOOKS.register_module()
class WriteCheckHook(SingleHook):
    """End a run when its log or a picture cannot be written.

    Without it, Python prints a traceback for every line of a log and continues. OpenCV, with which
    mmengine writes pictures, reports nothing. ``toast_mm.Runner`` always adds this hook.

    Raises:
        WriteError: A file cannot be written; the message names it.
    """

    priority = 'VERY_HIGH'  # before other hooks write

    def before_run(self, runner: Runner) -> None:
        """Make the classes that write the log and local pictures raise errors."""
        super().before_run(runner)
        for handler in runner.logger.handlers:
            if type(handler) is logging.FileHandler:
                handler.__class__ = LogFile
        for backend in runner.visualizer._vis_backends.values():
            if type(backend) is mmengine.visualization.LocalVisBackend:
                backend.__class__ = LocalVisBackend
