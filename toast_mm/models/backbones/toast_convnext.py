"""TOAST on a ConvNeXt.

Shi et al., `Refocusing Is Key to Transfer Learning <https://arxiv.org/abs/2305.15542>`_, sec. 4.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch.nn.functional as F
from mmpretrain.models import ConvNeXt
from mmpretrain.models.backbones.convnext import ConvNeXtBlock
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from toast_mm.models.layers import give_subclass
from toast_mm.registry import MODELS
from toast_mm.topdown import (
    DeconvFeedback,
    FeatureSelection,
    FeedbackPath,
    FeedbackRoute,
    TopDown,
)
from toast_mm.topdown.folding import fold_deconv

from .coarse import coarse_images, fit_map
from .modes import set_modes
from .steering import SteeredBackbone, norm_ratio
from .transfer import resolve_out_indices


class SteeredConvNeXtBlock(ConvNeXtBlock):
    """mmpretrain's block that keeps the modes of its pass; adds no state."""

    checkpointed: bool  # in place of the parent's with_cp, which forgets the modes

    def forward(self, x: Tensor, modes: Mapping[nn.Module, bool] = MappingProxyType({})) -> Tensor:
        """Map ``(B, C, H, W)`` to map.

        Activation checkpointing runs this again in the backward pass, when the modes of the two
        passes are gone: it needs them as an argument.
        """
        if self.checkpointed and x.requires_grad:
            return checkpoint(self._run, x, modes, use_reentrant=False)
        return self._run(x, modes)

    def _run(self, x: Tensor, modes: Mapping[nn.Module, bool]) -> Tensor:
        with set_modes(modes):
            return super().forward(x)


@MODELS.register_module()
class TOASTConvNeXt(SteeredBackbone, ConvNeXt):
    """mmpretrain's ConvNeXt (v1 and v2), frozen, with top-down attention steering.

    Its blocks are the stages: the signal is read after a stage, goes down by
    transposed convolutions and is added to the inputs of the stages, the image
    among them. Loads every ``mmpretrain.ConvNeXt`` checkpoint key for key; what
    is tuned lives under ``topdown.*``. The mask is made of the normed map (by
    the final norm, in the middle by one without parameters), and selects from
    the map itself. The first pass always runs in eval mode; a configured
    ``drop_path_rate`` acts in the second pass only.

    Images of any size will do. Where a size is no multiple of the stride, the
    signal of the rows and columns that a stage cuts off is that of their
    neighbours.

    Args:
        feedback_from: Number of stages after which the signal is read: 1 to 4,
            ``'middle'`` (2) or ``'last'`` (4). None removes the top-down part
            and leaves the plain backbone. Defaults to ``'last'``.
        feedback_to: First stage that receives a signal: 0 to
            ``feedback_from - 1``, ``'first'`` (0, to the image) or
            ``'middle'``. Defaults to ``'first'``.
        token_selection: Whether pixels are selected by a mask; otherwise the
            mask is 1. Defaults to True.
        channel_selection: Whether channels are selected; otherwise the channel
            transform and the feedback path stay frozen at their loaded values
            and only the task embedding is tuned. Defaults to True.
        tune_channel_transform: Whether the channel transform is tuned. Defaults
            to True.
        feedback_std: Standard deviation of the 1 x 1 convolutions of the
            feedback path at the start, at the widths of ConvNeXt-B; other
            widths keep the strength of the signal. Defaults to 0.02, the
            published value.
        lite: TOAST-Lite (paper sec. 3.2): ``dict(rank=4, alpha=1.0)`` freezes
            the feedback path at its loaded values and tunes low-rank updates of
            its weights, scaled by ``alpha / rank``, with the task embedding and
            the channel transform. Defaults to None, all is tuned.
        first_pass: How the first pass runs. ``dict(scale=0.5)`` runs it on the image at
            this fraction of its height and width, rounded to multiples of the stem's stride
            (a half is rounded up). Selection and feedback work on the coarse maps; the
            signals are resized bilinearly to what they are added to. No stage is shared by
            the passes then. Defaults to None, the whole image, as with a scale of 1.
        pretuned: Pre-tuned top-down module (path or URL) that
            :meth:`init_weights` loads. It must have been tuned on this base,
            for this route. Defaults to None.
        frozen: Whether the backbone is frozen: no gradients, and eval mode
            whatever :meth:`train` says. Norms of dense outputs below the last
            stage, which no classifier has, train nevertheless. Defaults to
            True.
        tuning: Method that tunes the frozen backbone itself, alone
            (``feedback_from=None``) or beside feedback:
            ``dict(type='toast_mm.LoRA')``, ``BitFit``, ``Partial`` or ``SSF``.
            Defaults to None.
        tune_stem: Whether the first convolution trains although the backbone is
            frozen. Defaults to None: it does if ``in_channels`` is not 3, since it is
            not pre-trained for such images.
        out_indices: Stages whose outputs are returned, in ascending order.
            Defaults to -1, the last one.
        in_channels: Number of bands of the images. Defaults to 3.
        **kwargs: Arguments of ``mmpretrain.ConvNeXt``: ``arch``,
            ``gap_before_final_norm`` (False for dense outputs),
            ``drop_path_rate``, ``init_cfg`` and the others.

    Raises:
        ValueError: The route does not fit the backbone, an output index is out
            of range, no output comes after the first receiver, or the read-out
            lacks its norm.

    Example:
        >>> backbone = TOASTConvNeXt(arch='tiny', out_indices=(0, 1, 2, 3),
        ...                          gap_before_final_norm=False)
        >>> [out.shape[1:] for out in backbone(torch.rand(1, 3, 64, 64))]
        [torch.Size([96, 16, 16]), torch.Size([192, 8, 8]), torch.Size([384, 4, 4]),
        torch.Size([768, 2, 2])]
    """

    lora_targets = ('pointwise_conv1', 'pointwise_conv2')

    def __init__(
        self,
        *,
        arch: str | dict = 'tiny',
        feedback_from: int | str | None = 'last',
        feedback_to: int | str = 'first',
        token_selection: bool = True,
        channel_selection: bool = True,
        tune_channel_transform: bool = True,
        feedback_std: float = 0.02,
        lite: Mapping[str, Any] | None = None,
        first_pass: Mapping[str, Any] | None = None,
        pretuned: str | None = None,
        frozen: bool = True,
        tuning: Mapping[str, Any] | None = None,
        tune_stem: bool | None = None,
        out_indices: Sequence[int] | int = -1,
        in_channels: int = 3,
        stem_patch_size: int = 4,
        with_cp: bool = False,
        **kwargs: Any,
    ) -> None:
        if 'out_type' in kwargs:
            raise ValueError(
                f'out_type={kwargs["out_type"]!r} is for a ViT; a ConvNeXt gives maps with '
                'gap_before_final_norm=False'
            )
        if isinstance(arch, str) and arch not in self.arch_settings:
            raise ValueError(f'arch={arch!r} is none of {", ".join(self.arch_settings)}')
        depths = arch['depths'] if isinstance(arch, dict) else self.arch_settings[arch]['depths']
        depth = len(depths)
        super().__init__(
            arch=arch,
            in_channels=in_channels,
            stem_patch_size=stem_patch_size,
            out_indices=resolve_out_indices(out_indices, depth),
            **kwargs,
        )
        for number, stage in enumerate(self.stages):
            for block, layer in enumerate(stage):
                # A subclass without state: keys and weights stay as they are.
                name = f'stages.{number}.{block}'
                give_subclass(layer, ConvNeXtBlock, SteeredConvNeXtBlock, name, 'steering')
                layer.checkpointed = with_cp
        # Norms of dense outputs belong to the outputs, not to a pre-trained classifier.
        self.modules_to_save = tuple(f'norm{stage}' for stage in range(depth - 1))
        topdown = route = coarse = None
        if feedback_from is not None:
            route = FeedbackRoute(depth, feedback_from, feedback_to)
            if route.reads_output and depth - 1 not in self.out_indices:
                raise ValueError(
                    f'feedback_from={feedback_from!r} reads through the norm of stage {depth - 1}, '
                    f'which only exists for an output: add it to out_indices={out_indices}'
                )
            read = stem_patch_size * 2 ** (route.feedback_from - 1)
            coarse = coarse_images(first_pass, [stem_patch_size] * 2, [read] * 2)
            selection = FeatureSelection(
                self.channels[route.feedback_from - 1], token_selection, tune_channel_transform
            )
            feedback = DeconvFeedback(
                (in_channels, *self.channels),
                (stem_patch_size, *[2] * (depth - 1)),
                route.receivers,
                feedback_std,
            )
            topdown = TopDown(selection, feedback, channel_selection, lite)
        self.prepare(
            depth=depth,
            out_indices=self.out_indices,
            topdown=topdown,
            route=route,
            steering_signature=dict(token_selection=token_selection),
            output_signature=dict(gap_before_final_norm=self.gap_before_final_norm),
            pretuned=pretuned,
            frozen=frozen,
            tuning=tuning,
            tune_stem=tune_stem,
            coarse=coarse,
        )

    def embed(self, image: Tensor) -> tuple[Tensor, None]:
        """The image ``(B, 3, H, W)`` itself enters the first stage."""
        return image, None

    def run_block(self, block: int, stream: Tensor, signal: Tensor | None = None) -> Tensor:
        """Run one stage, its downsampling included, on the sum of stream and signal."""
        if signal is not None:
            stream = stream + fit_map(signal, stream.shape[-2:])
        stream = self.downsample_layers[block](stream)
        for layer in self.stages[block]:
            stream = layer(stream, {module: module.training for module in layer.modules()})
        return stream

    def read_out(self, stream: Tensor) -> tuple[Tensor, Tensor]:
        """The normed map for the mask, and the map ``(B, H, W, C)`` to select from."""
        features = stream.permute(0, 2, 3, 1)
        if self.route.reads_output:
            return self._norm_of(self.depth - 1)(stream).permute(0, 2, 3, 1), features
        return F.layer_norm(features, features.shape[-1:], eps=1e-6), features

    def format_output(self, block: int, stream: Tensor, context: None) -> Tensor:
        """Normed map of a stage, or its normed mean ``(B, C)``."""
        norm = self._norm_of(block)
        if self.gap_before_final_norm:
            return norm(stream.mean((-2, -1), keepdim=True)).flatten(1)
        return norm(stream).contiguous()

    def signal_ratio(self, block: int, stream: Tensor, signal: Tensor) -> float:
        """Norm of the signal over the norm of the map that it is added to."""
        return norm_ratio(signal.float(), stream.float())

    def fold_feedback(self, feedback: FeedbackPath, transform: Tensor) -> nn.Module:
        """The transform in the deepest deconvolution, the last 1 x 1 convolution in its own."""
        return fold_deconv(feedback, transform)

    def block_modules(self, block: int) -> list[nn.Module]:
        """Downsampling and layers of a stage, and its norm if it has an output."""
        norms = [self._norm_of(block)] if block in self.out_indices else []
        return [self.downsample_layers[block], self.stages[block], *norms]

    def _norm_of(self, stage: int) -> nn.Module:
        return self.get_submodule(f'norm{stage}')
