"""TOAST on the Vision Transformers of timm: DeiT III, MAE, CLIP, SigLIP, DINOv2, DINOv3, EVA-02.

Shi et al., `Refocusing Is Key to Transfer Learning <https://arxiv.org/abs/2305.15542>`_, sec. 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isqrt, prod
from types import MappingProxyType
from typing import Any

import torch.nn.functional as F
from timm.layers import Attention, AttentionRope, resample_abs_pos_embed, to_2tuple
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block, ResPostBlock, VisionTransformer
from torch import Tensor, nn

from toast_mm.arguments import check_arguments
from toast_mm.models.layers import give_subclass
from toast_mm.models.peft.base import Tokens, effective_weight
from toast_mm.topdown import (
    PUBLISHED_GAIN,
    FeatureSelection,
    FeedbackPath,
    FeedbackRoute,
    LinearFeedback,
    TopDown,
)
from toast_mm.topdown.folding import fold_linear

from .attention import kept_weights, map_of_attention
from .coarse import coarse_images
from .modes import set_modes
from .steering import norm_ratio
from .timm_models import TOASTTimm

OUTPUTS = ('raw', 'cls_token', 'featmap', 'avg_featmap')
ATTENTIONS = (Attention, AttentionRope, EvaAttention)


class ValueInput:
    """Adds a signal to the values of an attention of timm (paper sec. 3.1, step iv).

    A hook after the value projection adds ``W_V td`` to its output. Without a signal it does
    nothing. timm's attention does not change, with its rotary embeddings and gates.

    Args:
        attn: One of :data:`ATTENTIONS`.
        bias_twice: Whether the bias of the values enters once more with the signal.
    """

    def __init__(self, attn: Any, bias_twice: bool) -> None:
        self.fused = attn.qkv is not None
        self.bias_twice = bias_twice
        self.folded = False  # the value projection is in the signal
        self.values: Tensor | None = None
        self.layer_of(attn).register_forward_hook(self.add)

    def layer_of(self, attn: Any) -> Any:
        """The layer that computes the values, alone or with queries and keys."""
        return attn.qkv if self.fused else attn.v_proj

    def projection(self, attn: Any) -> tuple[Tensor, Tensor | None]:
        """Weight ``W_V`` ``(C_V, C)`` and bias ``(C_V,)`` of the values."""
        layer = self.layer_of(attn)
        rows = slice(layer.out_features * 2 // 3 if self.fused else 0, None)
        weight, bias = effective_weight(layer, rows)
        apart = getattr(attn, 'v_bias', None)  # EVA's, beside a layer without one
        return weight, bias if apart is None else apart

    def add(self, layer: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        """Add the values of the signal to the output of the layer (a forward hook)."""
        if self.values is None:
            return None
        return output + F.pad(self.values, (output.shape[-1] - self.values.shape[-1], 0))

    @contextmanager
    def adding(self, attn: Any, signal: Tensor, fit: Callable | None = None) -> Iterator[None]:
        """Add a signal ``(B, N, C)`` to the values of the attention inside the context.

        A signal of another grid is fitted behind the projection, which is linear and costs less on
        the coarse grid.
        """
        weight, bias = self.projection(attn)
        values = signal if self.folded else F.linear(signal, weight)
        values = values if fit is None else fit(values)
        self.values = values + bias if self.bias_twice and bias is not None else values
        apart = getattr(attn, 'qkv_bias_separate', None)
        if apart is not None:
            attn.qkv_bias_separate = True  # otherwise EVA calls a function, and not the layer
        try:
            yield
        finally:
            self.values = None
            if apart is not None:
                attn.qkv_bias_separate = apart


class SteeredTimmBlock(nn.Module):
    """Mixin of a block of timm that takes the modes of a pass and a signal."""

    attn: Any

    def forward(
        self,
        x: Tensor,
        signal: Tensor | None = None,
        modes: Mapping[nn.Module, bool] = MappingProxyType({}),
        fit: Callable | None = None,
        *others: Any,
        **named: Any,
    ) -> Tensor:
        """Tokens ``(B, N, C)`` and an optional signal of that shape to tokens.

        Activation checkpointing runs this again in the backward pass, when the modes of the two
        passes are gone: it needs them as an argument.
        """
        plain = super().forward  # before the contexts, in which torch.compile finds no parent
        with set_modes(modes):
            if signal is None:
                return plain(x, *others, **named)
            with self.attn.value_input.adding(self.attn, signal, fit):
                return plain(x, *others, **named)


class SteeredBlock(SteeredTimmBlock, Block):  # type: ignore[misc]
    """Block of a ``VisionTransformer``."""


class SteeredResPostBlock(SteeredTimmBlock, ResPostBlock):  # type: ignore[misc]
    """The same with its norms behind attention and MLP."""


class SteeredEvaBlock(SteeredTimmBlock, EvaBlock):  # type: ignore[misc]
    """Block of an ``Eva``: DINOv3, EVA-02, Perception Encoder."""


class SteeredEvaBlockPostNorm(SteeredTimmBlock, EvaBlockPostNorm):  # type: ignore[misc]
    """The same with its norms behind attention and MLP."""


STEERED = {
    kind: subclass
    for subclass in (SteeredBlock, SteeredResPostBlock, SteeredEvaBlock, SteeredEvaBlockPostNorm)
    for kind in [subclass.__mro__[2]]
}


@check_arguments
class TOASTTimmTokens(TOASTTimm):
    """A Vision Transformer of timm, which ``toast_mm.TOASTTimm`` builds by its name.

    That is any model of timm's classes ``VisionTransformer`` and ``Eva`` whose attentions are
    ``Attention``, ``AttentionRope`` or ``EvaAttention``: ViT, DeiT III, MAE, CLIP, SigLIP, DINOv2
    with and without registers, DINOv3, EVA-02, Perception Encoder and others.

    Images may have any size that the patch divides.

    Args:
        model_name: Name of the model in timm, such as ``'vit_base_patch14_dinov2'``.
        img_size: Size of images that position embeddings are built for. Defaults to None, that of
            the model.
        in_channels: Number of bands of the images. Defaults to 3.
        out_type: What is returned of a block: ``'raw'`` tokens ``(B, N, C)``, the ``'cls_token'``
            ``(B, C)``, the ``'featmap'`` ``(B, C, H, W)`` without class and register tokens, or
            its mean ``'avg_featmap'`` ``(B, C)``. Defaults to ``'cls_token'``.
        feedback_from: See :class:`TOASTViT`, as for all arguments below.
        feedback_to: First block that receives a signal.
        token_selection: Whether tokens are selected by a mask.
        channel_selection: Whether channels are selected.
        tune_channel_transform: Whether the channel transform is tuned.
        value_bias_twice: Whether the bias of the values enters once more with the signal.
        feedback_gain: Factor by which a feedback matrix scales a random signal at the start.
        lite: Rank and alpha of TOAST-Lite.
        first_pass: How the first pass runs, such as ``dict(scale=0.5)``; rotary embeddings are
            those of the coarse grid.
        pretuned: Pre-tuned top-down module.
        frozen: Whether the backbone is frozen.
        tuning: Method that tunes the frozen backbone itself.
        tune_stem: Whether the first convolution trains although the backbone is frozen.
        out_indices: Blocks whose outputs are returned, in ascending order. Defaults to -1.
        init_cfg: Where the weights are: ``dict(type='Pretrained', checkpoint=...)``.
        **kwargs: Arguments of the model in timm, such as ``drop_path_rate``.

    Raises:
        ValueError: Blocks or attentions of the model, or an argument, do not fit.
    """

    fits = (VisionTransformer, Eva)

    def __init__(
        self,
        model_name: str,
        *,
        img_size: int | Sequence[int] | None = None,
        in_channels: int = 3,
        out_type: str = 'cls_token',
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
        init_cfg: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        _check_patches(kwargs)
        self.build_model(
            model_name, in_channels, img_size=img_size, dynamic_img_size=True, **kwargs
        )
        self.patch_size = self.model.patch_embed.patch_size
        if img_size is not None and not self.model.patch_embed.dynamic_img_pad:
            self._check_divided(to_2tuple(img_size))
        self.model.attn_pool = None
        width, depth = self.model.embed_dim, len(self.model.blocks)
        self.out_type = _checked_output(out_type, model_name, self.model)
        if out_type != 'avg_featmap':
            self.model.fc_norm = nn.Identity()  # which timm has for means of tokens
        self.tokens = Tokens(
            self.model.num_prefix_tokens,
            self.model.patch_embed.num_patches,
            prod(self.patch_size),
            width,
        )
        for number, block in enumerate(self.model.blocks):
            name = f'model.blocks.{number}'
            _check_block(block, name, model_name)
            give_subclass(block, type(block), STEERED[type(block)], name, 'steering')
            block.attn.value_input = ValueInput(block.attn, value_bias_twice)
        self.resized_parameters = () if self.model.pos_embed is None else ('model.pos_embed',)
        fused = self.model.blocks[0].attn.qkv is not None
        self.lora_targets = (
            ('attn.qkv',) if fused else ('attn.q_proj', 'attn.k_proj', 'attn.v_proj')
        )
        self._register_load_state_dict_pre_hook(self._resize_positions)
        topdown = route = coarse = None
        if feedback_from is not None:
            embedding = self.model.patch_embed
            coarse = coarse_images(
                first_pass, self.patch_size, None, embedding.img_size, embedding.dynamic_img_pad
            )
            route = FeedbackRoute(depth, feedback_from, feedback_to)
            selection = FeatureSelection(width, token_selection, tune_channel_transform)
            feedback = LinearFeedback(width, route.receivers, feedback_gain)
            topdown = TopDown(selection, feedback, channel_selection, lite)
        self.prepare(
            depth=depth,
            out_indices=out_indices,
            topdown=topdown,
            route=route,
            steering_signature=dict(
                token_selection=token_selection, value_bias_twice=value_bias_twice
            ),
            output_signature=dict(out_type=out_type, model_name=model_name),
            pretuned=pretuned,
            frozen=frozen,
            tuning=tuning,
            tune_stem=tune_stem,
            coarse=coarse,
        )
        for block in self.model.blocks:
            if hasattr(block.attn, 'num_prefix_tokens'):  # which rotary embeddings leave out
                block.attn.num_prefix_tokens += self.tokens.prompts
            if type(block.attn.qkv) is not nn.Linear and hasattr(block.attn, 'qkv_bias_separate'):
                block.attn.qkv_bias_separate = True  # so that what a method put there is called

    def is_left_out(self, name: str) -> bool:
        """Whether it is of a classifier or of pooling, or of the norm of means that is not used."""
        part = name.split('.')[0]
        unused = part == 'fc_norm' and isinstance(self.model.fc_norm, nn.Identity)
        return unused or part in ('head', 'head_dist', 'attn_pool')

    def _resize_positions(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Hook before loading: position embeddings of another grid are resized to this one."""
        name, own = f'{prefix}model.pos_embed', self.model.pos_embed
        given = state_dict.get(name)
        if own is None or given is None or given.shape == own.shape:
            return
        extra = 0 if self.model.no_embed_class else self.model.num_prefix_tokens
        if isqrt(given.shape[1] - extra) ** 2 != given.shape[1] - extra:
            return  # of another model, which the check of shapes refuses
        grid = self.model.patch_embed.grid_size
        state_dict[name] = resample_abs_pos_embed(given, grid, num_prefix_tokens=extra)

    def _check_divided(self, size: tuple[int, ...]) -> None:
        if any(side % patch for side, patch in zip(size, self.patch_size, strict=True)):
            raise ValueError(
                f'images of {size[0]} x {size[1]} pixels cannot be cut into patches of '
                f'{self.patch_size[0]} x {self.patch_size[1]}: resize, crop or pad them to '
                'multiples of it, or say dynamic_img_pad=True'
            )

    def embed(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Image ``(B, 3, H, W)`` to tokens ``(B, N, C)`` and the patch grid.

        Raises:
            ValueError: The patch does not divide the size of the image.
        """
        model, size = self.model, tuple(image.shape[-2:])
        grid = model.patch_embed.dynamic_feat_size(size)
        if not model.patch_embed.dynamic_img_pad:
            self._check_divided(size)
        tokens = model._pos_embed(model.patch_embed(image))
        tokens = tokens[0] if isinstance(tokens, tuple) else tokens
        return model.norm_pre(tokens), tuple(grid)

    def shared_arguments(self, context: tuple[int, int]) -> dict[str, Any]:
        """Rotary embeddings of the patch grid, of each block or of all."""
        rope = getattr(self.model, 'rope', None)
        return {} if rope is None else {'rope': rope.get_embed(shape=context)}

    def run_block(
        self,
        block: int,
        stream: Tensor,
        signal: Tensor | None = None,
        rope: Tensor | Sequence[Tensor] | None = None,
        fit: Callable | None = None,
    ) -> Tensor:
        """Run one block."""
        layer = self.model.blocks[block]
        modes = {module: module.training for module in layer.modules()}
        if rope is None:
            return layer(stream, signal, modes, fit)
        return layer(stream, signal, modes, fit, rope[block] if self.model.rope_mixed else rope)

    def read_out(self, stream: Tensor) -> tuple[Tensor, Tensor]:
        """The output passes the final norm; the stream in the middle is taken as it is."""
        z = self.model.norm(stream) if self.route.reads_output else stream
        return z, z

    def format_output(self, block: int, stream: Tensor, context: tuple[int, int]) -> Tensor:
        """Output of a block as ``out_type`` says, the last one through the final norm."""
        assert self.tokens is not None
        stream = self.tokens.without_prompts(stream)
        if block == self.depth - 1:
            stream = self.model.norm(stream)
        if self.out_type == 'raw':
            return stream
        if self.out_type == 'cls_token':
            return stream[:, 0]
        patches = stream[:, self.tokens.extra :]
        if self.out_type == 'avg_featmap':
            return self.model.fc_norm(patches.mean(1))
        return patches.unflatten(1, context).permute(0, 3, 1, 2).contiguous()

    def signal_ratio(self, block: int, stream: Tensor, signal: Tensor) -> float:
        """Norm of the signal's values over the norm of the values that it is added to."""
        layer = self.model.blocks[block]
        weight, bias = layer.attn.value_input.projection(layer.attn)
        normed = isinstance(layer, (Block, EvaBlock))
        stream = stream.to(weight.dtype)
        value = F.linear(layer.norm1(stream) if normed else stream, weight, bias)
        if not self.folded:
            signal = F.linear(signal.to(weight.dtype), weight)
        return norm_ratio(signal, value)

    def attention(self, block: int, stream: Tensor, context: tuple[int, int]) -> Tensor:
        """Attention ``(B, heads, h, w)`` to the patches, as timm computes it."""
        assert self.tokens is not None
        with kept_weights(self.model.blocks[block].attn) as kept:
            self.run_block(block, stream, **self.shared_arguments(context))
        extra = self.tokens.extra + self.tokens.prompts
        return map_of_attention(kept[0], extra, self.model.cls_token is not None, context)

    def fold_feedback(self, feedback: FeedbackPath, transform: Tensor) -> nn.Module:
        """One matrix per receiving block, the value projection included."""
        attentions = {block: self.model.blocks[block].attn for block in self.route.receivers}
        values = {block: attn.value_input.projection(attn)[0] for block, attn in attentions.items()}
        for attn in attentions.values():
            attn.value_input.folded = True
        return fold_linear(feedback, transform, values)

    def block_modules(self, block: int) -> list[nn.Module]:
        """The block; the final norms come with the last one."""
        norms = [self.model.norm, self.model.fc_norm] if block == self.depth - 1 else []
        return [self.model.blocks[block], *norms]


def _check_patches(kwargs: Mapping[str, Any]) -> None:
    """Refuse to leave patches out."""
    if kwargs.get('patch_drop_rate'):
        raise ValueError(
            f'patch_drop_rate={kwargs["patch_drop_rate"]} leaves tokens out, which the second pass '
            'needs: leave it out'
        )


def _check_block(block: nn.Module, name: str, model_name: str) -> None:
    """Refuse a block or an attention that computes its values in a way that is not known."""
    if type(block) not in STEERED:
        raise ValueError(
            f'model_name={model_name!r}: {name} is a {type(block).__name__}; toast_mm.TOASTTimm '
            f'fits {", ".join(kind.__name__ for kind in STEERED)}'
        )
    attn = block.get_submodule('attn')
    if type(attn) not in ATTENTIONS:
        raise ValueError(
            f'model_name={model_name!r}: {name}.attn is a {type(attn).__name__}; '
            f'toast_mm.TOASTTimm fits {", ".join(kind.__name__ for kind in ATTENTIONS)}'
        )


def _checked_output(out_type: str, model_name: str, model: Any) -> str:
    if out_type not in OUTPUTS:
        raise ValueError(f'out_type={out_type!r} is none of {", ".join(OUTPUTS)}')
    if out_type == 'cls_token' and model.cls_token is None:
        raise ValueError(
            f"out_type='cls_token' is not for {model_name}, which has no class token; it gives "
            "'avg_featmap', 'featmap' and 'raw'"
        )
    return out_type
