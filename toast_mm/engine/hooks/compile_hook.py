"""A backbone that is compiled."""

from __future__ import annotations

from typing import Any

from mmengine.runner import Runner

from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.engine.model import backbone_of
from toast_mm.keys import has_reader
from toast_mm.registry import HOOKS


@HOOKS.register_module()
class CompileHook(SingleHook):
    """Compile the backbone of a training by ``torch.compile``; names of weights stay.

    mmengine's key ``compile`` compiles whole steps, in which logging, mixed images and mmseg's
    losses fail. :class:`Runner` takes that key, True or a dict of the arguments, for this hook.

    Args:
        **options: Arguments of ``torch.compile``.

    Raises:
        ValueError: The model has no backbone, or mmengine compiles whole steps as well.
    """

    priority = 'VERY_HIGH'  # hooks that run the backbone in before_train run the compiled one

    def __init__(self, **options: Any) -> None:
        self.options = options

    def before_train(self, runner: Runner) -> None:
        """Compile; PyTorch does the work in the first iterations."""
        backbone = backbone_of(runner.model, 'CompileHook')
        if runner.cfg.get('compile') and not has_reader(runner.message_hub):
            raise ValueError(
                f'CompileHook: by compile={runner.cfg.compile!r} this Runner compiles whole steps '
                'as well: leave out one of them'
            )
        backbone.compile(**self.options)
        runner.logger.info('The backbone is compiled; the first iterations take longer')
