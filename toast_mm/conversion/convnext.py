"""ConvNeXts (v1 and v2) of their authors and of timm as mmpretrain's."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mmpretrain.models import ConvNeXt
from torch import Tensor

from toast_mm.checkpoint import CheckpointError

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


def convert_convnext(weights: Mapping[str, Tensor]) -> Converted:
    """Weights of a ConvNeXt under the names of mmpretrain's.

    Raises:
        CheckpointError: It is no ConvNeXt, or the weights do not fit together.
    """
    weights = without_prefix(weights, ('module.',))
    if not any(re.search(r'dwconv|conv_dw', name) for name in weights):
        raise CheckpointError('it is no ConvNeXt of its authors or of timm: it has no dwconv')
    why = 'ImageNet statistics, as all ConvNeXts of their authors'
    converted = Converted('ConvNeXt', dict(IMAGENET, why=why))
    rename(weights, RULES, converted, _reshape)
    converted.settings = settings_of(converted.weights)
    converted.compare(ConvNeXt(**converted.settings))
    return converted


def settings_of(weights: Mapping[str, Tensor]) -> dict:
    """Arguments of the ConvNeXt that weights are of."""
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
        raise CheckpointError(f'it is no whole ConvNeXt: {error.args[0]} is missing') from None
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
    """Pointwise convolutions as linear layers; response norms without axes of 1."""
    if name.endswith(('pointwise_conv1.weight', 'pointwise_conv2.weight')):
        return tensor.flatten(1)
    return tensor.flatten() if '.grn.' in name else tensor
