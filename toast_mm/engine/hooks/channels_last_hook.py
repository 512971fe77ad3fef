"""The order of convolutions in memory."""

import torch
from mmengine.runner import Runner

from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(SingleHook):
    """Order the memory of convolutions with their channels last.

    The outputs are the same. A ConvNeXt is faster so, most of all in bfloat16. Configs of
    :class:`Runner` may say ``channels_last=True``. Under another Runner, in several processes,
    PyTorch warns that the gradients of convolutions that train are copied once more.
    """

    priority = 'VERY_HIGH'  # before EMAHook copies the model

    def before_run(self, runner: Runner) -> None:
        """Order what is there; weights that are loaded later keep the order."""
        super().before_run(runner)
        runner.model.to(memory_format=torch.channels_last)
