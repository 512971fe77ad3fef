"""InCA as a classification head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import Any

import torch
from mmpretrain.models.heads import ClsHead
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from toast_mm.registry import MODELS

from .inca import CrossAttentionAdapter, check_frozen


@MODELS.register_module()
class InCAHead(ClsHead):
    """A :class:`CrossAttentionAdapter` on every output of a frozen backbone.

    The adapters train side by side, each with its own loss. It is logged as ``loss_layer<i>``,
    where i counts the outputs from 0. The adapters do not depend on each other; only clipping the
    norm of all gradients would couple them. :class:`LayerAccuracy` and :class:`BestLayerHook` find
    the best layer on validation data. The head detaches nothing. It needs a frozen backbone, and
    one that trains is an error; :class:`FrozenBackbone` freezes any backbone.

    Predictions carry ``layer_scores`` ``(num_layers, num_classes)``, the softmax of every layer.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the outputs, or a list with those of each.
        num_layers: Number of outputs: the length of ``out_indices`` of the backbone.
        adapter: Further arguments of :class:`CrossAttentionAdapter`, such as
            ``dict(per_class=True)``. Defaults to None.
        predict: Which layers predict. ``'best'`` is the best layer on validation data (the last
            one before any validation), ``'ensemble'`` the mean of the softmax of all layers, and a
            number one layer. Defaults to ``'best'``.
        tuned_backbone: Whether the backbone may train beside the adapters; if False, a backbone
            that trains is an error. Defaults to False.
        **kwargs: Arguments of mmpretrain's ``ClsHead``: ``loss``, ``topk``, ``cal_acc``,
            ``init_cfg``.

    Raises:
        ValueError: ``in_channels``, ``num_layers`` and ``predict`` do not fit together.

    Example:
        >>> backbone = TOASTViT(feedback_from=None, out_type='raw', out_indices=[-2, -1])
        >>> head = InCAHead(num_classes=100, in_channels=768, num_layers=2)
        >>> head(backbone(torch.rand(1, 3, 224, 224))).shape
        torch.Size([1, 100])
    """

    best_layer: Tensor

    def __init__(
        self,
        num_classes: int,
        in_channels: int | Sequence[int],
        num_layers: int,
        adapter: Mapping[str, Any] | None = None,
        predict: str | int = 'best',
        tuned_backbone: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        channels = [in_channels] * num_layers if isinstance(in_channels, int) else [*in_channels]
        if len(channels) != num_layers or num_layers < 1:
            raise ValueError(
                f'InCAHead: in_channels={in_channels} must be one number, or one for each of '
                f'num_layers={num_layers} layers; num_layers must be at least 1'
            )
        if predict not in ('best', 'ensemble', *range(num_layers)):
            raise ValueError(
                f"InCAHead: predict={predict!r} must be 'best', 'ensemble' or the number of an "
                f'output, 0..{num_layers - 1}'
            )
        self.num_classes = num_classes
        self.in_channels = channels
        self.num_layers = num_layers
        self.prediction = predict
        self.tuned_backbone = tuned_backbone
        self.adapters = nn.ModuleList(
            CrossAttentionAdapter(width, num_classes, **(adapter or {})) for width in channels
        )
        self.register_buffer('best_layer', torch.tensor(num_layers - 1))

    def layer_logits(self, feats: Sequence[Tensor]) -> Tensor:
        """Logits ``(num_layers, B, num_classes)`` of every layer.

        Args:
            feats: Outputs of the backbone: tokens ``(B, N, C)`` or maps ``(B, C, H, W)``.

        Raises:
            ValueError: The number of outputs is wrong, or the shape of one.
        """
        if len(feats) != self.num_layers:
            raise ValueError(
                f'InCAHead has num_layers={self.num_layers} adapters, but the backbone gives '
                f'{len(feats)} outputs: its out_indices must name one layer per adapter'
            )
        return torch.stack(
            [
                adapter(self._to_tokens(layer, feat))
                for layer, (adapter, feat) in enumerate(zip(self.adapters, feats, strict=True))
            ]
        )

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Outputs of the backbone to logits ``(B, num_classes)`` of the prediction.

        The logits of the ensemble are the logarithms of its scores.
        """
        return self._choose(self.layer_logits(feats))

    def loss(
        self, feats: Sequence[Tensor], data_samples: list[DataSample], **kwargs: Any
    ) -> dict[str, Tensor]:
        """Loss, and accuracy if ``cal_acc`` asks for it, of every layer.

        Raises:
            ValueError: The backbone trains.
        """
        if not self.tuned_backbone:
            check_frozen('InCAHead', feats)
        return {
            f'{name}_layer{layer}': value
            for layer, logits in enumerate(self.layer_logits(feats))
            for name, value in self._get_loss(logits, data_samples, **kwargs).items()
        }

    def predict(
        self, feats: Sequence[Tensor], data_samples: list[DataSample | None] | None = None
    ) -> list[DataSample]:
        """As in ``ClsHead``, with the scores of every layer added."""
        logits = self.layer_logits(feats)
        predictions = self._get_predictions(self._choose(logits), data_samples)
        for sample, scores in zip(predictions, logits.softmax(-1).unbind(1), strict=True):
            sample.set_field(scores, 'layer_scores')
        return predictions

    def _choose(self, logits: Tensor) -> Tensor:
        """Logits of all layers to the logits of the prediction."""
        if self.prediction == 'ensemble':
            return logits.log_softmax(-1).logsumexp(0) - log(self.num_layers)
        return logits[self.prediction if isinstance(self.prediction, int) else self.best_layer]

    def _to_tokens(self, layer: int, feat: Tensor) -> Tensor:
        tokens = feat.flatten(2).transpose(1, 2) if feat.ndim == 4 else feat
        if tokens.ndim != 3 or tokens.shape[-1] != self.in_channels[layer]:
            raise ValueError(
                f'InCAHead: output {layer} of the backbone has shape {tuple(feat.shape)}, but '
                f'tokens (B, N, C) or a map (B, C, H, W) of C={self.in_channels[layer]} channels '
                "are needed: set in_channels, and out_type='raw' of a ViT, out_type='featmap' of a "
                'TOASTTimm, or gap_before_final_norm=False of a ConvNeXt'
            )
        return tokens
