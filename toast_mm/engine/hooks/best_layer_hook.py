"""The layer that an InCA head predicts by."""

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
    """Have an :class:`InCAHead` predict by the layer that is the best on the validation data.

    After every validation of a training the layer of the highest ``accuracy/layer<i>/top1`` goes
    into ``head.best_layer``; of equals it is the lowest. The head needs ``predict='best'`` to
    follow it. ``accuracy/top1`` of that validation is still that of the choice before.

    mmengine saves an epoch before it validates it. A checkpoint of the very step that was
    validated is therefore written again if another layer is the best; best checkpoints, which are
    saved afterwards, have it from the start.

    Raises:
        ValueError: The head is another one, or there is no validation by :class:`LayerAccuracy`.
    """

    priority = 'LOW'  # behind EMAHook, which swaps weights, and in front of CheckpointHook

    def __init__(self) -> None:
        self._prefix: str | None = None
        self._saved_iter: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Find out what there is to choose by."""
        head = getattr(unwrap(runner.model), 'head', None)
        if not isinstance(head, InCAHead):
            raise ValueError(
                f'BestLayerHook: the head is a {type(head).__name__}, and only toast_mm.InCAHead '
                'predicts by one of several layers'
            )
        evaluators = runner.val_evaluator.metrics if runner.val_loop else []
        prefixes = [metric.prefix for metric in evaluators if isinstance(metric, LayerAccuracy)]
        if not prefixes:
            raise ValueError(
                'BestLayerHook: nothing tells which layer is the best; say '
                "val_evaluator=dict(type='toast_mm.LayerAccuracy')"
            )
        self._prefix = prefixes[0]

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Take the best layer."""
        if self._prefix is None or metrics is None:  # validation alone changes no model
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
        """Remember of which step it is; EMAHook puts in the buffers of its averaged model."""
        self._saved_iter = checkpoint['meta']['iter']
        _put(runner, checkpoint)

    def _write_again(self, runner: Runner) -> None:
        """The last checkpoint with the layer that was chosen after it had been saved."""
        path = runner.message_hub.get_info('last_ckpt')
        if not osp.isfile(path):
            runner.logger.warning(f'{path} is no local file and still has the former best layer')
            return
        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
        _put(runner, checkpoint)
        with atomic_write(path) as partial:
            torch.save(checkpoint, partial)


def _put(runner: Runner, checkpoint: dict[str, Any]) -> None:
    """Put the choice into the weights of a checkpoint, and into those that EMAHook keeps beside."""
    best = unwrap(runner.model).head.best_layer.cpu()
    checkpoint['state_dict']['head.best_layer'] = best
    if 'ema_state_dict' in checkpoint:
        checkpoint['ema_state_dict']['module.head.best_layer'] = best
