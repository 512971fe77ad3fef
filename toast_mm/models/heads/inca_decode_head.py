"""InCA for segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, prod
from typing import Any

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from torch import Tensor, nn

from toast_mm.registry import MODELS

from .inca import CrossAttention, check_frozen


class PixelAdapter(nn.Module):
    """Maps the feature map of one layer to logits of every pixel, by one query per class.

    ``x = LN(map)``, ``v_c = CrossAttention(q_c, x)``, ``logits_c = <W x, v_c> / sqrt(d) + b_c``.

    Args:
        in_channels: Channels C of the map.
        num_classes: Number K of classes.
        embed_dims: Width d of queries and attention.
        num_heads: Number of attention heads.
        norm_eps: Epsilon of the norms.
        init_std: Standard deviation of the queries at the start.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        embed_dims: int,
        num_heads: int,
        norm_eps: float,
        init_std: float,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_channels, norm_eps)
        self.attention = CrossAttention(in_channels, embed_dims, num_heads, norm_eps)
        self.queries = nn.Parameter(init_std * torch.randn(num_classes, embed_dims))
        self.pixel = nn.Linear(in_channels, embed_dims, bias=False)
        self.bias = nn.Parameter(torch.zeros(num_classes, 1))
        nn.init.xavier_uniform_(self.pixel.weight)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to logits ``(B, K, H, W)``."""
        tokens = self.norm(feature_map.flatten(2).transpose(1, 2))
        classes = self.attention(self.queries, tokens)
        pixels = self.pixel(tokens) / classes.shape[-1] ** 0.5
        logits = classes @ pixels.transpose(1, 2) + self.bias
        return logits.unflatten(2, feature_map.shape[-2:])


@MODELS.register_module()
class InCADecodeHead(BaseDecodeHead):
    """A :class:`PixelAdapter` on each of several feature maps of a frozen backbone.

    InCA was published for classification; this form for dense tasks is ours. As in
    :class:`InCAHead`, the adapters train side by side and do not depend on each other. The names of
    their losses end in ``_layer<i>``, where i counts ``in_index`` from 0.

    Args:
        in_channels: Channels of each map.
        channels: Width of queries and attention.
        in_index: Indices of the maps among the outputs of the backbone, from 0.
        num_heads: Number of attention heads. Defaults to 8.
        norm_eps: Epsilon of the norms. Defaults to 1e-6.
        init_std: Standard deviation of the queries at the start. Defaults to 0.02.
        predict: Which layers predict. ``'ensemble'`` is the mean of the softmax of all layers,
            resized to the largest map; a number is the place of one layer in ``in_index``. Defaults
            to ``'ensemble'``.
        tuned_backbone: Whether the backbone may train beside the adapters; if False, a backbone
            that trains is an error. Defaults to False.
        **kwargs: Arguments of mmseg's ``BaseDecodeHead``: ``num_classes``, ``loss_decode``,
            ``ignore_index``, ``align_corners``, ``sampler``.

    Raises:
        ValueError: ``in_channels``, ``in_index`` and ``predict`` do not fit together, or an
            argument is for layers that this head does not have.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        *,
        in_index: Sequence[int],
        num_heads: int = 8,
        norm_eps: float = 1e-6,
        init_std: float = 0.02,
        predict: str | int = 'ensemble',
        tuned_backbone: bool = False,
        init_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        unused = {'conv_cfg', 'norm_cfg', 'act_cfg', 'dropout_ratio', 'input_transform'} & {*kwargs}
        if unused:
            raise ValueError(
                f'InCADecodeHead has no convolutions and no dropout, and selects its maps by '
                f'in_index: leave out {", ".join(sorted(unused))}'
            )
        if not in_index or len(in_channels) != len(in_index):
            raise ValueError(
                f'InCADecodeHead: in_channels={in_channels} and in_index={in_index} must be lists '
                'of one number per map'
            )
        if predict not in ('ensemble', *range(len(in_index))):
            raise ValueError(
                f"InCADecodeHead: predict={predict!r} must be 'ensemble' or the place of a map in "
                f'in_index, 0..{len(in_index) - 1}'
            )
        super().__init__(
            in_channels,
            channels,
            in_index=in_index,
            input_transform='multiple_select',
            dropout_ratio=0,
            init_cfg=init_cfg,
            **kwargs,
        )
        del self.conv_seg  # unused: DDP fails on parameters without a gradient
        if self.out_channels != self.num_classes:
            raise ValueError(
                f'InCADecodeHead: out_channels={self.out_channels} must be '
                f'num_classes={self.num_classes}, since every class has one query'
            )
        self.prediction = predict
        self.tuned_backbone = tuned_backbone
        self.adapters = nn.ModuleList(
            PixelAdapter(width, self.num_classes, channels, num_heads, norm_eps, init_std)
            for width in in_channels
        )

    def layer_logits(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Logits ``(B, num_classes, H, W)`` of every layer, at the size of its map.

        Args:
            inputs: Outputs of the backbone, maps ``(B, C, H, W)``.

        Raises:
            ValueError: An output is missing or has another shape.
        """
        if not all(-len(inputs) <= index < len(inputs) for index in self.in_index):
            raise ValueError(
                f'InCADecodeHead: in_index={self.in_index} does not fit the {len(inputs)} outputs '
                'of the backbone: set its out_indices'
            )
        maps = self._transform_inputs(inputs)
        for index, channels, feature_map in zip(self.in_index, self.in_channels, maps, strict=True):
            if feature_map.ndim != 4 or feature_map.shape[1] != channels:
                raise ValueError(
                    f'InCADecodeHead: output {index} of the backbone has shape '
                    f'{tuple(feature_map.shape)}, but a map (B, C, H, W) of C={channels} channels '
                    "is needed: set in_channels, and out_type='featmap' of a ViT or a TOASTTimm"
                )
        return [adapter(maps[layer]) for layer, adapter in enumerate(self.adapters)]

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Outputs of the backbone to logits ``(B, num_classes, H, W)`` of the prediction.

        The logits of the ensemble are the logarithms of its scores.
        """
        logits = self.layer_logits(inputs)
        if isinstance(self.prediction, int):
            return logits[self.prediction]
        size = max((layer.shape[-2:] for layer in logits), key=prod)
        scores = [
            resize(layer, size, mode='bilinear', align_corners=self.align_corners).log_softmax(1)
            for layer in logits
        ]
        return torch.stack(scores).logsumexp(0) - log(len(scores))

    def loss(
        self, inputs: Sequence[Tensor], batch_data_samples: list, train_cfg: dict
    ) -> dict[str, Tensor]:
        """Losses and accuracy of every layer.

        Raises:
            ValueError: The backbone trains.
        """
        if not self.tuned_backbone:
            check_frozen('InCADecodeHead', inputs)
        return {
            f'{name}_layer{layer}': value
            for layer, logits in enumerate(self.layer_logits(inputs))
            for name, value in self.loss_by_feat(logits, batch_data_samples).items()
        }
