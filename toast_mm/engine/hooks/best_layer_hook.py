"""Choosing the layer with which an InCA head predicts."""

from __future__ import annotations

import os.path as osp
from typing import Any

import torch
from mmengine.runner import CheckpointLoader, Runner

from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.engine.model import unwrap
from toast_mm.evaluation.layer_accuracy import LayerAccuracy
from toast_mm.files import atomic_write
from toast_mm.models.heads import InCAHead
from toast_mm.registry import HOOKS


@HOOKS.register_module()
class BestLayerHook(SingleHook):
    """Make an :class:`InCAHead` predict with the best layer on the validation data.

    After every validation of a training, ``head.best_layer`` becomes the layer with the highest
    ``accuracy/layer<i>/top1``, or the lowest of equal layers. The head must have
    ``predict='best'``. ``accuracy/top1`` of this validation still uses the layer chosen before.

    mmengine saves a checkpoint before the validation of the same step. If the best layer changes,
    this hook writes that checkpoint again. Best checkpoints are saved later and need no change.

    Raises:
        ValueError: The head is not an :class:`InCAHead`, or :class:`LayerAccuracy` is missing in
            the validation.
    """

    priority = 'LOW'  # after EMAHook, which swaps weights, and before CheckpointHook

    def __init__(self) -> None:
        self._prefix: str | None = None
        self._saved_iter: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Find the metrics by which layers are compared."""
        head = getattr(unwrap(runner.model), 'head', None)
        if not isinstance(head, InCAHead):
            raise ValueError(
                f'BestLayerHook: the head is a {type(head).__name__}, but only toast_mm.InCAHead '
                'can predict with one of several layers'
            )
        evaluators = runner.val_evaluator.metrics if runner.val_loop else []
        prefixes = [metric.prefix for metric in evaluators if isinstance(metric, LayerAccuracy)]
        if not prefixes:
            raise ValueError(
                'BestLayerHook: no metric compares the layers; set '
                "val_evaluator=dict(type='toast_mm.LayerAccuracy')"
            )
        self._prefix = prefixes[0]

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Choose the best layer."""
        if self._prefix is None or metrics is None:  # validation without training changes nothing
            return
        head = unwrap(runner.model).head
        scores = [metrics[f'{self._prefix}/layer{layer}/top1'] for layer in range(head.num_layers)]
        best = scores.index(max(scores))
        runner.logger.info(
            f'The best layer is output {best} of {head.num_layers}, {scores[best]:.2f}% of top-1 '
            f'accuracy; all: {", ".join(f"{score:.2f}" for score in scores)}'
        )
        if best != head.best_layer:
            head.best_layer.fill_(best)
            if self._saved_iter == runner.iter:
                self._write_again(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note the step, and set the best layer in the weights, also in those of EMAHook."""
        self._saved_iter = checkpoint['meta']['iter']
        _put(runner, checkpoint)

    def _write_again(self, runner: Runner) -> None:
        """Write the last checkpoint again with the layer that was chosen after it was saved."""
        path = runner.message_hub.get_info('last_ckpt')
        if not osp.isfile(path):
            runner.logger.warning(f'{path} is not a local file and keeps the previous best layer')
            return
        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
        _put(runner, checkpoint)
        with atomic_write(path) as partial:
            torch.save(checkpoint, partial)


def _put(runner: Runner, checkpoint: dict[str, Any]) -> None:
    """Set the best layer in the weights of a checkpoint, and in those of EMAHook."""
    best = unwrap(runner.model).head.best_layer.cpu()
    checkpoint['state_dict']['head.best_layer'] = best
    if 'ema_state_dict' in checkpoint:
        checkpoint['ema_state_dict']['module.head.best_layer'] = best
