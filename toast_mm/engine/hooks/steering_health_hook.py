"""Monitoring whether the top-down signal has an effect."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Any

import torch
from mmengine.runner import Runner

from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.engine.model import steered_backbone
from toast_mm.registry import HOOKS


@HOOKS.register_module()
class SteeringHealthHook(SingleHook):
    """Log the selection mask and the strength of the signal; warn when steering is dead.

    For one training batch per ``interval`` it logs the mean mask, the share of tokens with mask 0,
    and for every receiving block the norm of the signal relative to the norm of the features that
    it is added to (the values of a ViT). It does nothing without a top-down module, and under
    :class:`FullyShardedDataParallel`, where no process holds the weights that it needs.

    Args:
        interval: Iterations between reports. Defaults to 100.
        max_masked: Steering is dead if more than this share of the tokens has
            mask 0. Defaults to 0.99.
        min_signal: Steering is dead if no block's signal is above this ratio.
            Defaults to 1e-3.
    """

    priority = 'VERY_LOW'

    def __init__(
        self, interval: int = 100, max_masked: float = 0.99, min_signal: float = 1e-3
    ) -> None:
        if interval < 1:
            raise ValueError(f'interval={interval} must be at least 1')
        self.interval = interval
        self.max_masked = max_masked
        self.min_signal = min_signal
        self._recording = ExitStack()
        self._record: Any = None
        self._warned = False
        self._sharded = False

    def before_train(self, runner: Runner) -> None:
        """Tell when there will be no reports."""
        self._sharded = any(hasattr(p, 'full_tensor') for p in runner.model.parameters())
        if self._sharded and steered_backbone(runner.model) is not None:
            runner.logger.info('SteeringHealthHook reports nothing about sharded weights')

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Record the next step if a report is due."""
        self._record = None
        self._recording.close()  # still open if a step failed
        backbone = steered_backbone(runner.model)
        due = runner.rank == 0 and runner.iter % self.interval == 0
        if backbone is not None and due and not self._sharded:
            self._record = self._recording.enter_context(backbone.recording())

    @torch.no_grad()
    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Report on a recorded step."""
        if self._record is None:
            return
        record, self._record = self._record, None
        self._recording.close()
        backbone = steered_backbone(runner.model)
        mask = backbone.topdown.selection.mask(record.z)
        mean, masked = mask.mean().item(), (mask == 0).float().mean().item()
        ratios = {
            block: backbone.signal_ratio(block, stream, record.signals[block])
            for block, stream in record.inputs.items()
        }
        by_block = ', '.join(f'{block}: {ratio:.2g}' for block, ratio in ratios.items())
        runner.logger.info(
            f'steering: mean mask {mean:.3f}, {masked:.1%} of the tokens at mask 0, '
            f'strength of the signal by block {by_block}'
        )
        scalars = {'steering/mask': mean, 'steering/masked': masked}
        scalars |= {f'steering/signal_{block}': ratio for block, ratio in ratios.items()}
        runner.visualizer.add_scalars(scalars, step=runner.iter + 1)  # as LoggerHook counts
        if not all(math.isfinite(value) for value in scalars.values()):
            runner.logger.warning(
                f'steering: mask or signal is not finite in iteration {runner.iter + 1}; check '
                'data, loaded weights and learning rate'
            )
            return
        if not self._warned and (
            masked > self.max_masked or max(ratios.values()) < self.min_signal
        ):
            self._warned = True
            runner.logger.warning(
                'steering is dead: the second pass equals the first one. Start from a '
                'pre-tuned module (pretuned=...), take the task embedding from the data '
                '(toast_mm.MeanTokenInitHook), or raise feedback_gain'
            )
