"""Logs and pictures that cannot be written."""

import logging

import mmengine.visualization
from mmengine.runner import Runner

from toast_mm.engine.backends import LocalVisBackend, LogFile
from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.registry import HOOKS


@HOOKS.register_module()
class WriteCheckHook(SingleHook):
    """End a run when its log or a picture cannot be written; ``toast_mm.Runner`` has it always.

    Python prints a traceback for every line of a log and goes on. OpenCV, by which mmengine writes
    pictures, says nothing.

    Raises:
        WriteError: Names the file.
    """

    priority = 'VERY_HIGH'  # before others write

    def before_run(self, runner: Runner) -> None:
        """Have the log and the local pictures written by classes that raise."""
        super().before_run(runner)
        for handler in runner.logger.handlers:
            if type(handler) is logging.FileHandler:
                handler.__class__ = LogFile
        for backend in runner.visualizer._vis_backends.values():
            if type(backend) is mmengine.visualization.LocalVisBackend:
                backend.__class__ = LocalVisBackend
