"""The linear head for segmentation of the DINO papers.

Oquab et al., `DINOv2: Learning Robust Visual Features without Supervision
<https://arxiv.org/abs/2304.07193>`_, sec. 7.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from mmcv.cnn import build_norm_layer
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

from toast_mm.registry import MODELS


@MODELS.register_module()
class LinearDecodeHead(BaseDecodeHead):
    """A batch norm and a linear classifier on every pixel of a feature map.

    This is DINOv2's ``BNHead``. The logits have the size of the map; mmseg resizes them to the
    image. With ``input_transform='resize_concat'`` and a list of ``in_channels`` and ``in_index``,
    the head classifies several maps that are joined along their channels (DINOv2's ``+ms`` joins
    those of the last four layers).

    Args:
        in_channels: Channels of the map, or of each of several maps.
        num_classes: Number of classes.
        norm_cfg: Kind of norm. Defaults to ``SyncBN``.
        dropout_ratio: Probability that a channel is dropped before the classifier. Defaults to 0,
            as in DINOv2; DINOv3 has 0.1.
        **kwargs: Other arguments of mmseg's ``BaseDecodeHead``, such as ``in_index``.

    Example:
        >>> head = LinearDecodeHead(768, num_classes=150, norm_cfg=dict(type='BN'))
        >>> head([torch.rand(2, 768, 37, 37)]).shape
        torch.Size([2, 150, 37, 37])
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        num_classes: int,
        norm_cfg: Mapping[str, Any] = MappingProxyType(dict(type='SyncBN')),
        dropout_ratio: float = 0.0,
        **kwargs: Any,
    ) -> None:
        channels = in_channels if isinstance(in_channels, int) else sum(in_channels)
        super().__init__(
            in_channels,
            channels,
            num_classes=num_classes,
            norm_cfg=norm_cfg,
            dropout_ratio=dropout_ratio,
            **kwargs,
        )
        self.norm = build_norm_layer(dict(norm_cfg), channels)[1]

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Maps ``(B, C, H, W)`` of the backbone to logits ``(B, K, H, W)``."""
        return self.cls_seg(self.norm(self._transform_inputs(inputs)))
