"""TOAST on a Vision Transformer.

Shi et al., `Refocusing Is Key to Transfer Learning <https://arxiv.org/abs/2305.15542>`_, sec. 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models import VisionTransformer
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from mmpretrain.models.utils import MultiheadAttention, resize_pos_embed, to_2tuple
from torch import Tensor, nn

from toast_mm.models.layers import give_subclass
from toast_mm.models.peft.base import Tokens, effective_weight
from toast_mm.registry import MODELS
from toast_mm.topdown import (
    PUBLISHED_GAIN,
    FeatureSelection,
    FeedbackPath,
    FeedbackRoute,
    LinearFeedback,
    TopDown,
)
from toast_mm.topdown.folding import fold_linear

from .attention import kept_weights_of_kernel, map_of_attention
from .coarse import coarse_images
from .modes import set_modes
from .steering import SteeredBackbone, norm_ratio


class SteeredAttention(MultiheadAttention):
    """mmpretrain's attention with a top-down signal on the values (paper sec. 3.1, step iv).

    ``Q, K = W_Q x, W_K x`` and ``V = W_V (x + td)``; the signal is not normed.
    Adds no state to its parent.
    """

    value_bias_twice: bool
    signal_is_value: bool = False  # true if folded: the signal includes the value projection

    def forward(
        self, x: Tensor, signal: Tensor | None = None, fit: Callable | None = None
    ) -> Tensor:
        """Attend. Normed tokens and result are ``(B, N, C)``, and so are fitted signals."""
        if signal is None:
            return super().forward(x)
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        added = self.project_value(signal)
        value = value + (added if fit is None else fit(added))
        query, key, value = (
            tokens.unflatten(-1, (self.num_heads, self.head_dims)).transpose(1, 2)
            for tokens in (query, key, value)
        )
        attn_drop = self.attn_drop if self.training else 0.0
        x = self.scaled_dot_product_attention(query, key, value, dropout_p=attn_drop)
        x = self.proj(x.transpose(1, 2).flatten(2))
        return self.out_drop(self.gamma1(self.proj_drop(x)))

    def project_value(self, signal: Tensor) -> Tensor:
        """Compute ``W_V td``, plus the value bias if it enters twice."""
        weight, bias = self.value_projection()
        bias = bias if self.value_bias_twice else None
        if self.signal_is_value:
            return signal if bias is None else signal + bias
        return F.linear(signal, weight, bias)

    def value_projection(self) -> tuple[Tensor, Tensor | None]:
        """Weight ``W_V`` ``(C, C)`` and bias ``(C,)`` of the value part of the projection."""
        return effective_weight(self.qkv, slice(-self.embed_dims, None))


class SteeredEncoderLayer(TransformerEncoderLayer):
    """mmpretrain's encoder layer, which passes a signal to its attention. Adds no state."""

    attn: SteeredAttention

    def forward(
        self,
        x: Tensor,
        signal: Tensor | None = None,
        modes: Mapping[nn.Module, bool] = MappingProxyType({}),
        fit: Callable | None = None,
    ) -> Tensor:
        """Tokens ``(B, N, C)`` and an optional signal of that shape to tokens.

        A signal of another grid is fitted behind the value projection, which is linear and costs
        less on the coarse grid.

        Activation checkpointing runs this again in the backward pass, when the modes of the two
        passes are gone: it needs them as an argument.
        """
        with set_modes(modes):
            x = x + self.attn(self.ln1(x), signal, fit)
            return self.ffn(self.ln2(x), identity=x)


@MODELS.register_module()
class TOASTViT(SteeredBackbone, VisionTransformer):
    """mmpretrain's Vision Transformer, frozen, with top-down attention steering.

    Loads every ``mmpretrain.VisionTransformer`` checkpoint key for key; what is
    tuned lives under ``topdown.*``. The first pass always runs in eval mode; a
    configured ``drop_path_rate`` acts in the second pass only, which is a
    deviation from the published code and makes the first pass a fixed function.

    Args:
        feedback_from: Number of blocks after which the signal is read: 1 to L,
            ``'middle'`` (L // 2) or ``'last'`` (L, through the final norm).
            None removes the top-down part and leaves the plain backbone.
            Defaults to ``'last'``.
        feedback_to: First block that receives a signal: 0 to
            ``feedback_from - 1``, ``'first'`` (0) or ``'middle'``. Defaults to
            ``'first'``.
        token_selection: Whether tokens are selected by a mask; otherwise the
            mask is 1. Defaults to True.
        channel_selection: Whether channels are selected; otherwise the channel
            transform and the feedback path stay frozen at their loaded values
            and only the task embedding is tuned. Defaults to True.
        tune_channel_transform: Whether the channel transform is tuned (as in
            the paper; the published vision code leaves it at the identity).
            Defaults to True.
        value_bias_twice: Whether the bias of the value projection enters once
            more with the signal, as published weights were trained. Defaults
            to True.
        feedback_gain: Standard deviation of the feedback matrices at the start,
            times ``sqrt(C)``: the factor by which one of them scales a random
            signal. Defaults to 0.02 * sqrt(768), the published initialisation
            of ViT-B, whatever the width.
        lite: TOAST-Lite (paper sec. 3.2): ``dict(rank=4, alpha=1.0)`` freezes
            the feedback path at its loaded values and tunes low-rank updates of
            its weights, scaled by ``alpha / rank``, with the task embedding and
            the channel transform. Defaults to None, all is tuned.
        first_pass: How the first pass runs. ``dict(scale=0.5)`` runs it on the image at
            this fraction of its height and width, rounded to whole patches (a half is
            rounded up; images are padded to whole patches before). Position embeddings are
            resized as for any image of this size. Selection and feedback work on the coarse
            grid; the signals of patches are resized bilinearly, those of other tokens are
            not. No block is shared by the passes then. Defaults to None, the whole image,
            as with a scale of 1.
        pretuned: Pre-tuned top-down module (path or URL) that
            :meth:`init_weights` loads: a file that :class:`PretunedHook` wrote,
            or a checkpoint of a whole model. It must have been tuned on this
            base, for this route. Defaults to None.
        frozen: Whether the backbone is frozen: no gradients, and eval mode
            whatever :meth:`train` says. Defaults to True.
        tuning: Method that tunes the frozen backbone itself, alone
            (``feedback_from=None``) or beside feedback:
            ``dict(type='toast_mm.LoRA')``, ``BitFit``, ``Partial``, ``SSF``,
            ``AdaptFormer``, ``PEFT``, or, alone only, ``VPT``. Defaults to None.
        tune_stem: Whether the first convolution trains although the backbone is
            frozen. Defaults to None: it does if ``in_channels`` is not 3, since it is
            not pre-trained for such images.
        out_indices: Blocks whose outputs are returned, in ascending order.
            Defaults to -1, the last one.
        **kwargs: Arguments of ``mmpretrain.VisionTransformer``: ``arch``,
            ``img_size``, ``patch_size``, ``in_channels``, ``out_type``, ``drop_path_rate``,
            ``init_cfg`` and the others. Note that ``arch='small'`` is 768-d
            there; ViT-S is ``'deit-small'``. ``drop_rate`` acts in the second pass of
            an unfrozen backbone only.

    Raises:
        ValueError: The route does not fit the backbone, an output index is out
            of range, no output comes after the first receiver, or the first pass
            would run on less than a patch.

    Example:
        >>> backbone = TOASTViT(arch='deit-tiny', feedback_from='middle', out_type='featmap')
        >>> backbone(torch.rand(1, 3, 224, 224))[0].shape
        torch.Size([1, 192, 14, 14])
    """

    # The norm of out_type='avg_featmap' belongs to the output, not to a pre-trained ViT.
    modules_to_save = ('ln2',)
    resized_parameters = ('pos_embed',)
    lora_targets = ('attn.qkv',)

    def __init__(
        self,
        *,
        feedback_from: int | str | None = 'last',
        feedback_to: int | str = 'first',
        token_selection: bool = True,
        channel_selection: bool = True,
        tune_channel_transform: bool = True,
        value_bias_twice: bool = True,
        feedback_gain: float = PUBLISHED_GAIN,
        lite: Mapping[str, Any] | None = None,
        first_pass: Mapping[str, Any] | None = None,
        pretuned: str | None = None,
        frozen: bool = True,
        tuning: Mapping[str, Any] | None = None,
        tune_stem: bool | None = None,
        out_indices: Sequence[int] | int = -1,
        **kwargs: Any,
    ) -> None:
        if 'gap_before_final_norm' in kwargs:
            raise ValueError(
                f'gap_before_final_norm={kwargs["gap_before_final_norm"]} is for a ConvNeXt; a ViT '
                "gives maps with out_type='featmap' and tokens with out_type='raw'"
            )
        _check_sizes(**kwargs)
        super().__init__(**kwargs)
        for block, layer in enumerate(self.layers):
            # Subclasses without state: keys and weights stay as they are.
            name, attn = f'layers.{block}', layer.attn
            give_subclass(layer, TransformerEncoderLayer, SteeredEncoderLayer, name, 'steering')
            give_subclass(attn, MultiheadAttention, SteeredAttention, f'{name}.attn', 'steering')
            layer.attn.value_bias_twice = value_bias_twice

        patches = prod(self.patch_resolution)
        self.tokens = Tokens(
            self.num_extra_tokens, patches, prod(self.img_size) // patches, self.embed_dims
        )
        topdown = route = coarse = None
        if feedback_from is not None:
            stride = kwargs.get('patch_cfg', {}).get('stride') or kwargs.get('patch_size', 16)
            coarse = coarse_images(first_pass, to_2tuple(stride), None, self.img_size, pads=True)
            route = FeedbackRoute(self.num_layers, feedback_from, feedback_to)
            selection = FeatureSelection(self.embed_dims, token_selection, tune_channel_transform)
            feedback = LinearFeedback(self.embed_dims, route.receivers, feedback_gain)
            topdown = TopDown(selection, feedback, channel_selection, lite)
        self.prepare(
            depth=self.num_layers,
            out_indices=out_indices,
            topdown=topdown,
            route=route,
            steering_signature=dict(
                token_selection=token_selection, value_bias_twice=value_bias_twice
            ),
            output_signature=dict(out_type=self.out_type),
            pretuned=pretuned,
            frozen=frozen,
            tuning=tuning,
            tune_stem=tune_stem,
            coarse=coarse,
        )

    def embed(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Image ``(B, 3, H, W)`` to tokens ``(B, N, C)`` and the patch grid."""
        x, grid = self.patch_embed(image)
        if self.cls_token is not None:
            x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1)
        x = x + resize_pos_embed(
            self.pos_embed,
            self.patch_resolution,
            grid,
            mode=self.interpolate_mode,
            num_extra_tokens=self.num_extra_tokens,
        )
        return self.pre_norm(self.drop_after_pos(x)), grid

    def run_block(
        self,
        block: int,
        stream: Tensor,
        signal: Tensor | None = None,
        fit: Callable | None = None,
    ) -> Tensor:
        """Run one encoder layer."""
        layer = self.layers[block]
        return layer(stream, signal, {module: module.training for module in layer.modules()}, fit)

    def read_out(self, stream: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the final norm to the output. A stream of a middle block has none."""
        z = self.ln1(stream) if self.route.reads_output and self.final_norm else stream
        return z, z

    def format_output(self, block: int, stream: Tensor, context: tuple[int, int]) -> Tensor:
        """Format the output of a block by ``out_type``. The last one passes the final norm."""
        if block == self.depth - 1 and self.final_norm:
            stream = self.ln1(stream)
        assert self.tokens is not None
        return self._format_output(self.tokens.without_prompts(stream), context)

    def signal_ratio(self, block: int, stream: Tensor, signal: Tensor) -> float:
        """Norm of the values of the signal divided by the norm of the values of the tokens."""
        layer = self.layers[block]
        weight, bias = layer.attn.value_projection()
        value = F.linear(layer.ln1(stream.to(weight.dtype)), weight, bias)
        if not self.folded:
            signal = F.linear(signal.to(weight.dtype), weight)
        return norm_ratio(signal, value)

    def attention(self, block: int, stream: Tensor, context: tuple[int, int]) -> Tensor:
        """Attention ``(B, heads, h, w)`` to the patches, as mmpretrain computes it."""
        assert self.tokens is not None
        with kept_weights_of_kernel(self.layers[block].attn) as kept:
            self.run_block(block, stream)
        extra = self.tokens.extra + self.tokens.prompts
        return map_of_attention(kept[0], extra, self.cls_token is not None, context)

    def fold_feedback(self, feedback: FeedbackPath, transform: Tensor) -> nn.Module:
        """Fold into one matrix per receiving block, with the value projection."""
        attentions = {block: self.layers[block].attn for block in self.route.receivers}
        values = {block: attn.value_projection()[0] for block, attn in attentions.items()}
        for attn in attentions.values():
            attn.signal_is_value = True
        return fold_linear(feedback, transform, values)

    def block_modules(self, block: int) -> list[nn.Module]:
        """The encoder layer, and the final norm with the last one."""
        norms = [self.ln1] if self.final_norm and block == self.depth - 1 else []
        return [self.layers[block], *norms]

    def train(self, mode: bool = True) -> TOASTViT:
        """Set the mode. Frozen modules stay in eval mode."""
        super().train(mode)
        if self.frozen_stages > 0:
            self._freeze_stages()
        return self


def _check_sizes(
    arch: Any = None, img_size: Any = None, patch_size: Any = None, **others: Any
) -> None:
    """Check sizes that mmpretrain computes with unchecked.

    Raises:
        ValueError: Names the argument, its value, and what it must be.
    """
    if isinstance(arch, Mapping):
        for name, value in arch.items():
            if not _is_size(value):
                raise ValueError(f'arch.{name}={value!r} must be an integer of at least 1')
        dims, heads = arch.get('embed_dims'), arch.get('num_heads')
        if dims and heads and dims % heads:
            raise ValueError(f'arch.num_heads={heads} must divide arch.embed_dims={dims}')
    for name, value in (('img_size', img_size), ('patch_size', patch_size)):
        pair = value if isinstance(value, (list, tuple)) else [value, value]
        if value is not None and (len(pair) != 2 or not all(map(_is_size, pair))):
            raise ValueError(f'{name}={value!r} must be a number of pixels, or height and width')


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
