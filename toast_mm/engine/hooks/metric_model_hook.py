"""Metrics that look into the model."""

from __future__ import annotations

from mmengine.evaluator import Evaluator
from mmengine.model import BaseTTAModel
from mmengine.runner import Runner

from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.engine.model import unwrap
from toast_mm.evaluation import AttentionInside
from toast_mm.registry import HOOKS


@HOOKS.register_module()
class MetricModelHook(SingleHook):
    """Give the model to :class:`AttentionInside`, since metrics of mmengine see predictions only.

    It does nothing for other metrics. All our configs use it.

    Raises:
        ValueError: Test-time augmentation gives the metric several views of every image.
    """

    def before_val_epoch(self, runner: Runner) -> None:
        """Before the validation."""
        self._give(runner, runner.val_evaluator)

    def before_test_epoch(self, runner: Runner) -> None:
        """Before the test."""
        self._give(runner, runner.test_evaluator)

    @staticmethod
    def _give(runner: Runner, evaluator: Evaluator) -> None:
        for metric in evaluator.metrics:
            if isinstance(metric, AttentionInside):
                if isinstance(runner.model, BaseTTAModel):
                    raise ValueError(
                        'AttentionInside: test-time augmentation shows the model several views of '
                        'every image, in which the objects are elsewhere: test without it'
                    )
                metric.model = unwrap(runner.model)
