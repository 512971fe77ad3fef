"""The classifier that pre-tunes a top-down module."""

from __future__ import annotations

from typing import Any

from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor

from toast_mm.registry import MODELS
from toast_mm.topdown import variational_loss


@MODELS.register_module()
class PretuneClassifier(ImageClassifier):
    """mmpretrain's ``ImageClassifier`` with the losses of pre-tuning (paper sec. 3.2, A.2).

    Args:
        *args: As for ``ImageClassifier``; the backbone must have a top-down
            module.
        variational_weight: Weight of the variational loss, which is logged as
            ``loss_var``. With 0 the loss is not computed. Defaults to
            0.03, as in the paper (the published code has 0.1 for ViT and 0.01
            for ConvNeXt).
        both_passes: Whether the classification loss is the mean over both
            passes, as in AbSViT. If False, it is the loss of the second pass.
            Defaults to False.
        **kwargs: As for ``ImageClassifier``.

    Raises:
        ValueError: The weight is negative, or the backbone has no top-down
            module.
    """

    def __init__(
        self,
        *args: Any,
        variational_weight: float = 0.03,
        both_passes: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if getattr(self.backbone, 'topdown', None) is None:
            raise ValueError(
                'pre-tuning needs a backbone with a top-down module, such as toast_mm.TOASTViT '
                f'with feedback_from set; this {type(self.backbone).__name__} has none'
            )
        if variational_weight < 0:
            raise ValueError(f'variational_weight={variational_weight} must not be negative')
        self.variational_weight = variational_weight
        self.both_passes = both_passes

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Losses of a batch of images ``(B, 3, H, W)``, by name."""
        if not self.variational_weight and not self.both_passes:
            return super().loss(inputs, data_samples)
        with self.backbone.recording() as record:
            losses = super().loss(inputs, data_samples)
        if self.both_passes:
            plain = self.backbone.finish_first_pass(record)
            plain = self.neck(plain) if self.with_neck else plain
            first = self.head.loss(plain, data_samples)
            losses['loss'] = (first['loss'] + losses['loss']) / 2
        if self.variational_weight:
            feedback = self.backbone.topdown.feedback
            losses['loss_var'] = self.variational_weight * variational_loss(
                feedback, record.inputs, record.outputs
            )
        return losses
