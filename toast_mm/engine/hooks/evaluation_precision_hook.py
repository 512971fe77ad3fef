"""The precision of validation and test."""

from mmengine.device import get_device
from mmengine.runner import BaseLoop, Runner

from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.engine.optim import computes_bfloat16
from toast_mm.registry import HOOKS


@HOOKS.register_module()
class EvaluationPrecisionHook(SingleHook):
    """Evaluate in float32 on a CPU without bfloat16 units, even with ``fp16=True``.

    mmengine would use bfloat16 there, which is slower than float32. The log reports it.
    ``toast_mm.Runner`` always adds this hook.
    """

    def before_run(self, runner: Runner) -> None:
        """Set the precision of the loops of this run."""
        super().before_run(runner)
        if get_device() != 'cpu':
            return
        for loop, what in ((runner._val_loop, 'validation'), (runner._test_loop, 'the test')):
            if isinstance(loop, BaseLoop) and getattr(loop, 'fp16', False):
                loop.fp16 = computes_bfloat16('cpu', what)
