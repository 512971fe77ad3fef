"""Compiling the backbone."""

from __future__ import annotations

from typing import Any

from mmengine.runner import Runner

from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.engine.model import backbone_of
from toast_mm.keys import has_reader
from toast_mm.registry import HOOKS


@HOOKS.register_module()
class CompileHook(SingleHook):
    """Compile the backbone of a training with ``torch.compile``; names of weights do not change.

    mmengine's key ``compile`` compiles whole steps, which fails for logging, mixed images and
    mmseg's losses. :class:`Runner` uses this key, True or a dict of arguments, for this hook.

    Args:
        **options: Arguments of ``torch.compile``.

    Raises:
        ValueError: The model has no backbone, or mmengine also compiles whole steps.
    """

    priority = 'VERY_HIGH'  # before hooks that run the backbone in before_train

    def __init__(self, **options: Any) -> None:
        self.options = options

    def before_train(self, runner: Runner) -> None:
        """Compile the backbone; PyTorch does this in the first iterations."""
        backbone = backbone_of(runner.model, 'CompileHook')
        if runner.cfg.get('compile') and not has_reader(runner.message_hub):
            raise ValueError(
                f'CompileHook: compile={runner.cfg.compile!r} makes this Runner compile whole '
                'steps as well: leave out one of them'
            )
        backbone.compile(**self.options)
        runner.logger.info('The backbone is compiled; the first iterations take longer')
