"""TOAST on timm's hierarchical models: ConvNeXt, Swin, ResNet, RegNet, EfficientNet, MobileNet.

Shi et al., `Refocusing Is Key to Transfer Learning <https://arxiv.org/abs/2305.15542>`_, sec. 4.4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import torch.nn.functional as F
from timm.layers import resize_rel_pos_bias_table_simple
from timm.models.convnext import ConvNeXt, ConvNeXtStage
from timm.models.efficientnet import EfficientNet
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.regnet import RegNet, RegStage
from timm.models.resnet import ResNet
from timm.models.swin_transformer import SwinTransformer, SwinTransformerStage
from timm.models.swin_transformer_v2 import SwinTransformerV2, SwinTransformerV2Stage
from torch import Tensor, nn

from toast_mm.arguments import check_arguments
from toast_mm.models.layers import give_subclass
from toast_mm.models.peft.base import is_linear
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
from .steering import norm_ratio
from .timm_models import TOASTTimm, class_in_timm

OUTPUTS = ('featmap', 'avg_featmap')
TABLE = '.relative_position_bias_table'  # of a window of Swin
OLD_BUFFERS = ('relative_position_index', 'relative_coords_table', 'attn_mask')  # of Swin


@dataclass(frozen=True)
class Family:
    """Names of the parts of a class of timm.

    Attributes:
        stem: Modules before the stages.
        stages: Regular expression for names of stages.
        norm: Norm of the last map; if there is none, timm has an ``Identity`` or nothing.
        pooled_norm: Norm behind pooling.
        head: Modules between the last map and pooling, for a classifier.
        pooled_head: Other modules that timm runs for a classifier.
        windows: Whether it is a Swin: channels last, and built for a size of images.
        linear: Last parts of the names of its linear layers and 1 x 1 convolutions, if it has them.
    """

    stem: tuple[str, ...]
    stages: str
    norm: str | None = None
    pooled_norm: str | None = None
    head: tuple[str, ...] = ()
    pooled_head: tuple[str, ...] = ()
    windows: bool = False
    linear: tuple[str, ...] = ()


SWIN = Family(('patch_embed',), r'layers\.\d+', norm='norm', windows=True, linear=('attn.qkv',))
POINTWISE = ('conv_pw', 'conv_pwl', 'pw_exp.conv', 'pw_proj.conv')
FAMILIES: dict[type, Family] = {
    ConvNeXt: Family(
        ('stem',),
        r'stages\.\d+',
        norm='norm_pre',
        pooled_norm='head.norm',
        pooled_head=('head',),
        linear=('mlp.fc1', 'mlp.fc2'),
    ),
    SwinTransformer: SWIN,
    SwinTransformerV2: SWIN,
    ResNet: Family(('conv1', 'bn1', 'act1', 'maxpool'), r'layer\d+', linear=('conv1', 'conv3')),
    RegNet: Family(('stem',), r's\d+', head=('final_conv',), linear=('conv1.conv', 'conv3.conv')),
    EfficientNet: Family(
        ('conv_stem', 'bn1'), r'blocks\.\d+', head=('conv_head', 'bn2'), linear=POINTWISE
    ),
    MobileNetV3: Family(
        ('conv_stem', 'bn1'),
        r'blocks\.\d+',
        pooled_head=('conv_head', 'norm_head'),
        linear=POINTWISE,
    ),
}


class SteeredStage(nn.Module):
    """Mixin of a stage of timm that sets the modes of a pass."""

    def forward(self, x: Tensor, modes: Mapping[nn.Module, bool] = MappingProxyType({})) -> Tensor:
        """Map to map, in the layout of the stage.

        Activation checkpointing runs this again in the backward pass, when the modes of the two
        passes are gone: it needs them as an argument.
        """
        plain = super().forward  # before the context, in which torch.compile finds no parent
        with set_modes(modes):
            return plain(x)


class SteeredSequential(SteeredStage, nn.Sequential):
    """Stage of a ResNet, an EfficientNet or a MobileNet."""


class SteeredConvNeXtStage(SteeredStage, ConvNeXtStage):
    """Stage of a ConvNeXt."""


class SteeredSwinStage(SteeredStage, SwinTransformerStage):
    """Stage of a Swin."""


class SteeredSwinV2Stage(SteeredStage, SwinTransformerV2Stage):
    """Stage of a Swin v2."""


class SteeredRegStage(SteeredStage, RegStage):
    """Stage of a RegNet."""


STEERED: dict[type, type[SteeredStage]] = {
    subclass.__mro__[2]: subclass
    for subclass in (
        SteeredSequential,
        SteeredConvNeXtStage,
        SteeredSwinStage,
        SteeredSwinV2Stage,
        SteeredRegStage,
    )
}


@check_arguments
class TOASTTimmStages(TOASTTimm):
    """A hierarchical model of timm, which ``toast_mm.TOASTTimm`` builds by its name.

    It fits all models of timm's classes ``ConvNeXt`` (v1, v2 and DINOv3's), ``SwinTransformer`` and
    ``SwinTransformerV2``, ``ResNet`` (also ResNeXt and SE-ResNet), ``RegNet``, ``EfficientNet``
    (also MobileNet v1 and v2, MnasNet, MixNet) and ``MobileNetV3`` (also MobileNet v4 and LCNet).

    A block lies between two reductions of timm's ``feature_info``, so ``out_indices`` are those of
    timm's ``features_only``. In a ResNet or an EfficientNet, block 0 is the stem. The signal passes
    through transposed convolutions and is added to the inputs of the blocks, including the image.
    The mask is computed from the normed map (by the final norm of a ConvNeXt or a Swin, otherwise
    by one without parameters), and selects from the map itself.
    Batch norm statistics do not change.

    Images may have any size. Where a stride does not divide a size, the signal is cut off, or its
    last row and column are repeated.

    Args:
        model_name: Name of the model in timm, such as ``'convnext_base.dinov3_lvd1689m'``.
        img_size: Size of images that the windows of a Swin are built for. Defaults to None, that of
            the model.
        in_channels: Number of bands of the images. Defaults to 3.
        out_type: What is returned of a block: the ``'featmap'`` ``(B, C, H, W)``, for the last
            block behind the final norm of maps, if there is one; or ``'avg_featmap'`` ``(B, C)``,
            its mean, for the last block all that timm has before the classifier. Defaults to
            ``'featmap'``.
        feedback_from: See :class:`TOASTConvNeXt`, as for all arguments below.
        feedback_to: First block that receives a signal.
        token_selection: Whether pixels are selected by a mask.
        channel_selection: Whether channels are selected.
        tune_channel_transform: Whether the channel transform is tuned.
        feedback_std: Standard deviation of the 1 x 1 convolutions of the feedback path at the
            start.
        lite: Rank and alpha of TOAST-Lite.
        first_pass: How the first pass runs, such as ``dict(scale=0.5)``.
        pretuned: Pre-tuned top-down module.
        frozen: Whether the backbone is frozen.
        tuning: Method that tunes the frozen backbone itself.
        tune_stem: Whether the first convolution trains although the backbone is frozen.
        out_indices: Blocks whose outputs are returned, in ascending order. Defaults to -1.
        init_cfg: Where the weights are: ``dict(type='Pretrained', checkpoint=...)``.
        **kwargs: Arguments of the model in timm, such as ``drop_path_rate``.

    Raises:
        ValueError: An argument does not fit the model.
    """

    fits = tuple(FAMILIES)

    def __init__(
        self,
        model_name: str,
        *,
        img_size: int | Sequence[int] | None = None,
        in_channels: int = 3,
        out_type: str = 'featmap',
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
        init_cfg: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        _check_output(out_type, model_name, kwargs)
        self.family = FAMILIES[class_in_timm(model_name)]
        if self.family.windows:
            kwargs.setdefault('strict_img_size', False)
        elif img_size is not None:
            raise ValueError(
                f'img_size={img_size} is not for {model_name}, which takes images of any size as '
                'it is: leave it out'
            )
        self.build_model(model_name, in_channels, img_size=img_size, **kwargs)
        if self.family.windows:
            self.model.patch_embed.dynamic_img_pad = True  # for images of any size
        self.out_type = out_type
        self.parts = self._steered_parts()
        self.resized_parameters = tuple(
            name for name, _ in self.named_parameters() if name.endswith(TABLE)
        )
        self._register_load_state_dict_pre_hook(self._resize_tables)
        linear = [name for name, layer in self.named_modules() if is_linear(layer)]
        self.lora_targets = tuple(
            target
            for target in self.family.linear
            if any(name.endswith(f'.{target}') for name in linear)
        )
        channels = [info['num_chs'] for info in self.model.feature_info]
        reductions = [1, *(info['reduction'] for info in self.model.feature_info)]
        depth = len(channels)
        topdown = route = coarse = None
        if feedback_from is not None:
            route = FeedbackRoute(depth, feedback_from, feedback_to)
            read, size = reductions[route.feedback_from], None
            if self.family.windows:
                size = self.model.patch_embed.img_size
            coarse = coarse_images(first_pass, [reductions[1]] * 2, [read] * 2, size)
            selection = FeatureSelection(
                channels[route.feedback_from - 1], token_selection, tune_channel_transform
            )
            strides = [below // above for above, below in pairwise(reductions)]
            feedback = DeconvFeedback(
                (in_channels, *channels), strides, route.receivers, feedback_std
            )
            topdown = TopDown(selection, feedback, channel_selection, lite)
        self.prepare(
            depth=depth,
            out_indices=out_indices,
            topdown=topdown,
            route=route,
            steering_signature=dict(token_selection=token_selection),
            output_signature=dict(out_type=out_type, model_name=model_name),
            pretuned=pretuned,
            frozen=frozen,
            tuning=tuning,
            tune_stem=tune_stem,
            coarse=coarse,
        )
        for layer in self.model.modules():
            if hasattr(layer, 'qkv_bias_separate') and type(layer.qkv) is not nn.Linear:
                layer.qkv_bias_separate = True  # so that Swin v2 calls what a method put there

    def _steered_parts(self) -> list[list[str]]:
        """Names of the modules that timm runs one after the other, by block."""
        pattern = re.compile(rf'model\.({self.family.stages})')
        stages = [name for name, _ in self.named_modules() if pattern.fullmatch(name)]
        for name in stages:
            stage = self.get_submodule(name)
            give_subclass(stage, type(stage), STEERED[type(stage)], name, 'steering')
        ends = [f'model.{info["module"]}' for info in self.model.feature_info]
        parts: list[list[str]] = [[]]
        for name in [*(f'model.{part}' for part in self.family.stem), *stages]:
            parts[-1].append(name)
            if name in ends:
                parts.append([])
        return parts[:-1]

    def is_left_out(self, name: str) -> bool:
        """Whether it is of the classifier, or what old files hold of a Swin beside its weights."""
        classifier = self.model.pretrained_cfg['classifier']
        return name.startswith(f'{classifier}.') or name.endswith(OLD_BUFFERS)

    def _resize_tables(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Hook before loading: positions in another window are resized to this one."""
        for name in self.resized_parameters:
            own, given = self.get_parameter(name), state_dict.get(f'{prefix}{name}')
            if given is not None and given.shape != own.shape:
                attention: Any = self.get_submodule(name.removesuffix(TABLE))
                state_dict[f'{prefix}{name}'] = resize_rel_pos_bias_table_simple(
                    given, new_window_size=attention.window_size, new_bias_shape=own.shape
                )

    def embed(self, image: Tensor) -> tuple[Tensor, None]:
        """The image ``(B, 3, H, W)`` itself enters the first block."""
        return image, None

    def run_block(self, block: int, stream: Tensor, signal: Tensor | None = None) -> Tensor:
        """Run one block on the sum of stream and signal, maps ``(B, C, H, W)``."""
        if signal is not None:
            stream = stream + fit_map(signal, stream.shape[-2:])
        if block:
            stream = self._to_layout(stream)
        for name in self.parts[block]:
            part = self.get_submodule(name)
            if isinstance(part, SteeredStage):
                stream = part(stream, {module: module.training for module in part.modules()})
            else:
                stream = part(stream)
        return self._from_layout(stream)

    def _to_layout(self, stream: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to the layout of the stages."""
        return stream.permute(0, 2, 3, 1) if self.family.windows else stream

    def _from_layout(self, stream: Tensor) -> Tensor:
        """Map in the layout of the stages to ``(B, C, H, W)``."""
        return stream.permute(0, 3, 1, 2) if self.family.windows else stream

    def read_out(self, stream: Tensor) -> tuple[Tensor, Tensor]:
        """The normed map for the mask, and the map ``(B, H, W, C)`` to select from."""
        features, norm = stream.permute(0, 2, 3, 1), self._final_norm()
        if self.route.reads_output and norm is not None:
            normed = self._from_layout(norm(self._to_layout(stream)))
            return normed.permute(0, 2, 3, 1), features
        return F.layer_norm(features, features.shape[-1:], eps=1e-6), features

    def _final_norm(self) -> nn.Module | None:
        """The norm of the last map, or of its mean."""
        names = [name for name in (self.family.norm, self.family.pooled_norm) if name]
        norms = (self.model.get_submodule(name) for name in names)
        return next((norm for norm in norms if not isinstance(norm, nn.Identity)), None)

    def format_output(self, block: int, stream: Tensor, context: None) -> Tensor:
        """Map of a block, or its mean ``(B, C)``."""
        pooled = self.out_type == 'avg_featmap'
        if block < self.depth - 1:
            return stream.mean((-2, -1)) if pooled else stream.contiguous()
        stream = self._to_layout(stream)
        for name in [self.family.norm] if self.family.norm else []:
            stream = self.model.get_submodule(name)(stream)
        if not pooled:
            return self._from_layout(stream).contiguous()
        for name in self.family.head:
            stream = self.model.get_submodule(name)(stream)
        return self.model.forward_head(stream, pre_logits=True)

    def signal_ratio(self, block: int, stream: Tensor, signal: Tensor) -> float:
        """Norm of the signal over the norm of the map that it is added to."""
        return norm_ratio(signal.float(), stream.float())

    def fold_feedback(self, feedback: FeedbackPath, transform: Tensor) -> nn.Module:
        """The transform in the deepest deconvolution, the last 1 x 1 convolution in its own."""
        return fold_deconv(feedback, transform)

    def block_modules(self, block: int) -> list[nn.Module]:
        """Modules of a block; norm and head come with the last one."""
        modules = [self.get_submodule(name) for name in self.parts[block]]
        if block == self.depth - 1:
            norm = [self.model.get_submodule(self.family.norm)] if self.family.norm else []
            modules += [*norm, *self._head()]
        return modules

    def _head(self) -> list[nn.Module]:
        names = (*self.family.head, *self.family.pooled_head)
        return [self.model.get_submodule(name) for name in names]

    def _freeze_unused(self) -> None:
        """Also freeze the head, if only maps are returned; the read-out may need its norm."""
        super()._freeze_unused()
        if self.out_type == 'avg_featmap' and self.depth - 1 in self.out_indices:
            return
        norm = self._final_norm() if self.topdown and self.route.reads_output else None
        used = set() if norm is None else set(norm.parameters())
        for parameter in nn.ModuleList(self._head()).parameters():
            if parameter not in used:
                parameter.requires_grad_(False)


def _check_output(out_type: str, model_name: str, kwargs: Mapping[str, Any]) -> None:
    if out_type in ('cls_token', 'raw'):
        raise ValueError(
            f'out_type={out_type!r} is for tokens, but {model_name} has maps; it gives '
            "'featmap' and 'avg_featmap'"
        )
    if out_type not in OUTPUTS:
        raise ValueError(f'out_type={out_type!r} is none of {", ".join(OUTPUTS)}')
    if 'global_pool' in kwargs:
        raise ValueError(
            f'global_pool={kwargs["global_pool"]!r} is for classifiers of timm: leave it out, and '
            "say out_type='avg_featmap' or 'featmap'"
        )
