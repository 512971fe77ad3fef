"""Predictions of a test run in a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mmengine
from mmengine.evaluator import DumpResults
from mmengine.logging import print_log

from toast_mm.files import atomic_write
from toast_mm.registry import METRICS


@METRICS.register_module()
class DumpPredictions(DumpResults):
    """mmengine's ``DumpResults`` without what would not fit: logits and copies of the truth.

    The logits of one ADE20K image take 200 MB; its label map takes 3. The file
    appears under its name when it is complete.
    """

    def process(self, data_batch: Any, predictions: Sequence[dict]) -> None:
        """Keep predictions and metadata of a batch."""
        dropped = ('seg_logits', 'i_seg_logits', 'gt_sem_seg')
        super().process(
            data_batch,
            [{key: value for key, value in p.items() if key not in dropped} for p in predictions],
        )

    def compute_metrics(self, results: list) -> dict:
        """Write the file; it has no metrics of its own."""
        with atomic_write(self.out_file_path) as partial:
            mmengine.dump(results, partial)
        print_log(f'Predictions are in {self.out_file_path}', logger='current')
        return {}
