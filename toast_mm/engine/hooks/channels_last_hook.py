"""The memory format of convolutions."""

import torch
from mmengine.runner import Runner

from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(SingleHook):
    """Use PyTorch's memory format ``channels_last`` for convolutions.

    The outputs are the same, but a ConvNeXt is faster, above all in bfloat16. Configs of
    :class:`Runner` may set ``channels_last=True``. Under another Runner with several processes,
    PyTorch warns that gradients of trained convolutions are copied once more.
    """

    priority = 'VERY_HIGH'  # before EMAHook copies the model

    def before_run(self, runner: Runner) -> None:
        """Convert the model; weights that are loaded later keep the format."""
        super().before_run(runner)
        runner.model.to(memory_format=torch.channels_last)
