"""Converter of ConvNeXts (v1 and v2) of their authors and of timm to mmpretrain's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from mmpretrain.models import ConvNeXt
from timm.models.convnext import checkpoint_filter_fn
from torch import Tensor, nn

from toast_mm.checkpoint import CheckpointError

from .reference import TAKEN, UNTOLD, activation, check_same_features, load_timm, preprocessing
from .report import Converted, rename, without_prefix
from .vit import IMAGENET

_N, _W = r'(\d+)', r'(weight|bias)'
_LAYER, _TO = rf'stages\.{_N}\.(?:blocks\.)?{_N}', r'backbone.stages.\1.\2'
RULES = [
    (rf'stem\.{_N}\.{_W}', r'backbone.downsample_layers.0.\1.\2'),
    (rf'stages\.{_N}\.downsample\.{_N}\.{_W}', r'backbone.downsample_layers.\1.\2.\3'),
    (rf'downsample_layers\.{_N}\.{_N}\.{_W}', r'backbone.downsample_layers.\1.\2.\3'),
    (rf'{_LAYER}\.(?:conv_dw|dwconv)\.{_W}', rf'{_TO}.depthwise_conv.\3'),
    (rf'{_LAYER}\.norm\.{_W}', rf'{_TO}.norm.\3'),
    (rf'{_LAYER}\.(?:mlp\.fc|pwconv)([12])\.{_W}', rf'{_TO}.pointwise_conv\3.\4'),
    (rf'{_LAYER}\.gamma', rf'{_TO}.gamma'),
    (rf'{_LAYER}\.(?:mlp\.grn\.weight|grn\.gamma)', rf'{_TO}.grn.gamma'),
    (rf'{_LAYER}\.(?:mlp\.grn\.bias|grn\.beta)', rf'{_TO}.grn.beta'),
    (rf'(?:head\.)?norm\.{_W}', r'backbone.norm3.\1'),
    (rf'head\.(?:fc\.)?{_W}', r'head.fc.\1'),
]


BESIDE = r'head\..*'  # weights that are not part of the backbone


def convert_convnext(
    weights: Mapping[str, Tensor], reference: nn.Module | None = None
) -> Converted:
    """Convert the weights of a ConvNeXt to the names of mmpretrain's.

    A model that computes something else than mmpretrain's is an error. If the weights do not show
    which model they belong to, a reference is needed.

    Args:
        weights: Weights of the authors or of timm.
        reference: timm's model that the weights belong to; they are loaded into it here. It also
            gives the activation, the epsilon of the norms and the preprocessing. Defaults to None.

    Raises:
        CheckpointError: The weights are not of a ConvNeXt, do not fit together, belong to a model
            that mmpretrain does not have, or do not show which model they belong to.
    """
    weights = without_prefix(weights, ('module.',))
    if not any(re.search(r'dwconv|conv_dw', name) for name in weights):
        raise CheckpointError('not a ConvNeXt of its authors or of timm: there is no dwconv')
    why = 'ImageNet statistics, as for all ConvNeXts of their authors'
    converted = Converted('ConvNeXt', dict(IMAGENET, why=why))
    rename(weights, RULES, converted, _reshape)
    converted.refuse_unknown(BESIDE, 'ConvNeXt')
    converted.settings = settings_of(converted.weights)
    if reference is not None:
        load_timm(reference, checkpoint_filter_fn(dict(weights), reference), BESIDE)
        converted.preprocessing = preprocessing(reference)
        converted.settings |= _settings_of_timm(reference)
    convnext = ConvNeXt(**converted.settings)
    converted.compare(convnext)
    if converted.missing:
        return converted
    if reference is not None:
        check_same_features(
            reference, lambda image: _features(reference, image), convnext, converted.weights, 64
        )
    elif any('.conv_dw.' in name for name in weights):
        _check_usual(converted.settings['arch'])
        converted.caveat = TAKEN
    if any(name.startswith('head.pre_logits.') for name in converted.unused):
        converted.drop_head()
    return converted


def _check_usual(arch: Mapping[str, list[int]]) -> None:
    """Check that all of timm's ConvNeXts of this size have the usual epsilon and activation."""
    if arch['depths'] == [3, 4, 30, 3] or arch['channels'] in ([24, 32, 48, 64], [32, 64, 96, 128]):
        why = 'timm has ConvNeXts of this size with another activation or epsilon of the norms'
        raise CheckpointError(UNTOLD.format(why))


def _settings_of_timm(model: nn.Module) -> dict[str, Any]:
    """Settings of timm's model that the weights do not show."""
    block = cast(Any, model).stages[0].blocks[0]
    settings: dict[str, Any] = {}
    if block.norm.eps != 1e-6:
        settings['norm_cfg'] = dict(type='LN2d', eps=block.norm.eps)
    if act_cfg := activation(block.mlp.act):
        settings['act_cfg'] = act_cfg
    return settings


def _features(model: nn.Module, image: Tensor) -> Tensor:
    """Normed mean of the last map, before any other layer of a head."""
    head = cast(Any, model).head
    return head.norm(head.global_pool(cast(Any, model).forward_features(image))).flatten(1)


def settings_of(weights: Mapping[str, Tensor]) -> dict:
    """Arguments of the ConvNeXt that the weights fit."""
    layers = [
        (int(m[1]), int(m[2]))
        for name in weights
        if (m := re.match(r'backbone\.stages\.(\d+)\.(\d+)\.depthwise_conv\.weight', name))
    ]
    stages = range(1 + max((stage for stage, _ in layers), default=-1))
    try:
        stem = weights['backbone.downsample_layers.0.0.weight'].shape[-1]
        channels = [
            len(weights[f'backbone.stages.{stage}.0.depthwise_conv.weight']) for stage in stages
        ]
    except KeyError as error:
        raise CheckpointError(f'not a complete ConvNeXt: {error.args[0]} is missing') from None
    depths = [1 + max(layer for at, layer in layers if at == stage) for stage in stages]
    settings: dict = dict(arch=dict(depths=depths, channels=channels))
    if stem != 4:
        settings['stem_patch_size'] = stem
    if 'backbone.stages.0.0.grn.gamma' in weights:
        settings['use_grn'] = True
    if 'backbone.stages.0.0.gamma' not in weights:
        settings['layer_scale_init_value'] = 0.0
    return settings


def _reshape(name: str, tensor: Tensor) -> Tensor:
    """Turn pointwise convolutions into linear weights; drop axes of size 1 of response norms."""
    if name.endswith(('pointwise_conv1.weight', 'pointwise_conv2.weight')):
        return tensor.flatten(1)
    return tensor.flatten() if '.grn.' in name else tensor
