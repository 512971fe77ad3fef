"""Accuracy of every layer of an InCA head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmpretrain.evaluation import Accuracy

from toast_mm.registry import METRICS


@METRICS.register_module()
class LayerAccuracy(Accuracy):
    """mmpretrain's ``Accuracy``, with the accuracy of every layer of an :class:`InCAHead`.

    It adds ``layer<i>/top1`` for every layer and ``ensemble/top1`` for the mean of their scores,
    with the prefix ``accuracy/``. Its arguments are those of ``Accuracy``.

    Raises:
        ValueError: Predictions have no ``layer_scores``.
    """

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the classes that each layer, and the average of all layers, predicts for a batch."""
        start = len(self.results)
        super().process(data_batch, data_samples)
        for result, sample in zip(self.results[start:], data_samples, strict=True):
            if 'layer_scores' not in sample:
                raise ValueError(
                    'LayerAccuracy: the predictions have no layer_scores; it works with '
                    'toast_mm.InCAHead, without test-time augmentation'
                )
            scores = sample['layer_scores']
            scores = torch.cat([scores, scores.mean(0, keepdim=True)])
            result['layer_labels'] = scores.argmax(1).cpu()

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Accuracies in percent, by name."""
        metrics = super().compute_metrics(results)
        target = torch.cat([result['gt_label'] for result in results])
        *layers, ensemble = torch.stack([result['layer_labels'] for result in results], dim=1)
        for layer, labels in enumerate(layers):
            metrics[f'layer{layer}/top1'] = self.calculate(labels, target).item()
        metrics['ensemble/top1'] = self.calculate(ensemble, target).item()
        return metrics
