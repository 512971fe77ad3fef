"""The precision of validation and test."""

from mmengine.device import get_device
from mmengine.runner import BaseLoop, Runner

from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.engine.optim import computes_bfloat16
from toast_mm.registry import HOOKS


@HOOKS.register_module()
class EvaluationPrecisionHook(SingleHook):
    """Have ``fp16=True`` of validation and test mean float32 on a CPU without bfloat16 units.

    mmengine would compute in bfloat16 there, which is slower than float32. The log says so.
    ``toast_mm.Runner`` has this hook always.
    """

    def before_run(self, runner: Runner) -> None:
        """Look at the loops of this run."""
        super().before_run(runner)
        if get_device() != 'cpu':
            return
        for loop, what in ((runner._val_loop, 'validation'), (runner._test_loop, 'the test')):
            if isinstance(loop, BaseLoop) and getattr(loop, 'fp16', False):
                loop.fp16 = computes_bfloat16('cpu', what)
