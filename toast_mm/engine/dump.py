"""Writing the predictions of a test run to a file."""

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
    """mmengine's ``DumpResults`` without large entries: logits and copies of the truth.

    The logits of one ADE20K image take 200 MB, its label map 3 MB. The write is atomic.
    """

    def process(self, data_batch: Any, predictions: Sequence[dict]) -> None:
        """Keep predictions and metadata of a batch."""
        dropped = ('seg_logits', 'i_seg_logits', 'gt_sem_seg')
        super().process(
            data_batch,
            [{key: value for key, value in p.items() if key not in dropped} for p in predictions],
        )

    def compute_metrics(self, results: list) -> dict:
        """Write the file; there are no metrics."""
        with atomic_write(self.out_file_path) as partial:
            mmengine.dump(results, partial)
        print_log(f'Predictions are in {self.out_file_path}', logger='current')
        return {}
