"""Confusion matrix of segmentation: how many pixels of a class are predicted as which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmpretrain.evaluation import ConfusionMatrix
from torch import Tensor

from toast_mm.registry import METRICS


@METRICS.register_module()
class PixelConfusionMatrix(BaseMetric):
    """mmpretrain's ``ConfusionMatrix``, over the pixels of segmentation.

    It gives ``confusion_matrix/result``, pixels by true class (rows) and predicted class.

    Args:
        ignore_index: Label of pixels that do not count. Defaults to 255.
        **kwargs: Arguments of mmengine's ``BaseMetric``.
    """

    default_prefix = ConfusionMatrix.default_prefix

    def __init__(self, ignore_index: int = 255, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ignore_index = ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the pixels of a batch.

        Raises:
            ValueError: A mask has a label that is not a class.
        """
        number = len(self.dataset_meta['classes'])
        for sample in data_samples:
            truth = sample['gt_sem_seg']['data'].flatten().cpu()
            predicted = sample['pred_sem_seg']['data'].flatten().cpu()
            kept = truth != self.ignore_index
            truth, predicted = truth[kept], predicted[kept]
            if len(truth) and not 0 <= truth.min() <= truth.max() < number:
                wrong = truth[(truth < 0) | (truth >= number)][0].item()
                raise ValueError(
                    f'{sample.get("seg_map_path", "a mask")}: label {wrong} is outside the classes '
                    f'0..{number - 1} and is not {self.ignore_index}, which is ignored'
                )
            # Most pairs of classes do not occur in an image.
            self.results.append(ConfusionMatrix.calculate(predicted, truth, number).to_sparse())

    def compute_metrics(self, results: list[Tensor]) -> dict[str, Tensor]:
        """The sum over all images."""
        total, *others = (result.to_dense() for result in results)
        return {'result': sum(others, total)}
