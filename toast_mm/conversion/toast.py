"""Checkpoints of the published TOAST code (bfshi/TOAST, visual classification)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from toast_mm.checkpoint import CheckpointError
from toast_mm.models import TOASTConvNeXt, TOASTViT

from .convnext import convert_convnext
from .report import Converted, rename, without_prefix
from .vit import IMAGENET, convert_vit

_N = r'(\d+)'
_TOPDOWN = 'backbone.topdown.'
_LAYER = rf'{_TOPDOWN}feedback.layers.\1'
RULES = [
    (r'prompt', f'{_TOPDOWN}selection.task_embedding'),
    (r'top_down_transform', f'{_TOPDOWN}selection.channel_transform'),
    (rf'decoders\.{_N}\.linear\.weight', rf'{_LAYER}.descend.weight'),
    (rf'decoders\.{_N}\.linear2\.weight', rf'{_LAYER}.emit.weight'),
    (rf'decoders\.{_N}\.linear\.lora_A', rf'{_LAYER}.updates.descend.down'),
    (rf'decoders\.{_N}\.linear\.lora_B', rf'{_LAYER}.updates.descend.up'),
    (rf'decoders\.{_N}\.linear2\.lora_A', rf'{_LAYER}.updates.emit.down'),
    (rf'decoders\.{_N}\.linear2\.lora_B', rf'{_LAYER}.updates.emit.up'),
]


def convert_toast(weights: Mapping[str, Tensor]) -> Converted:
    """Weights of a published TOAST model under the names of this project's.

    ViT and ConvNeXt, TOAST and TOAST-Lite, bare backbones and classifiers are
    told apart by their names. A TOAST-Lite must have been saved in training mode:
    in evaluation mode the published code saves weights with their updates in
    them, and the updates as well, and adds them again when it is loaded.

    Args:
        weights: The weights in ``model`` (a pre-tuned backbone) or in
            ``model_state_dict`` (a classifier).

    Raises:
        CheckpointError: It is no such file, or the weights do not fit together.
    """
    weights = without_prefix(without_prefix(weights, ('module.',)), ('enc.',))
    weights = {name.replace('head.last_layer.', 'head.'): t for name, t in weights.items()}
    topdown = {
        n: t for n, t in weights.items() if n.startswith(('decoders.', 'prompt', 'top_down'))
    }
    if 'prompt' not in topdown or 'decoders.0.linear.weight' not in topdown:
        raise CheckpointError('it is no published TOAST checkpoint: prompt or decoders are missing')
    plain = {name: tensor for name, tensor in weights.items() if name not in topdown}
    is_vit = topdown['decoders.0.linear.weight'].ndim == 2
    converted = convert_vit(plain) if is_vit else convert_convnext(plain)
    rename(topdown, RULES, converted)
    lite = _add_scales(converted)
    converted.kind = f'TOAST{"-Lite" if lite else ""} on {"ViT" if is_vit else "ConvNeXt"}'
    why = 'ImageNet statistics, as in the published code'
    converted.preprocessing = dict(IMAGENET, why=why)
    converted.caveat = ''
    if lite:
        converted.settings['lite'] = lite
        converted.caveat = (
            'A TOAST-Lite that the published code saved in evaluation mode holds its updates in '
            'its weights as well: convert one that was saved in training mode.'
        )
    settings = dict(converted.settings)
    if is_vit:
        if isinstance(settings['arch'], dict):
            settings['arch'] = dict(settings['arch'], num_heads=1)
        with torch.device('meta'):
            converted.compare(TOASTViT(**settings))
    else:
        converted.compare(TOASTConvNeXt(**settings))
    return converted


def _add_scales(converted: Converted) -> dict:
    """The published alpha is 1, and is not in the file."""
    downs = [name for name in converted.weights if name.endswith('.down')]
    for name in downs:
        scale = torch.tensor(1.0 / len(converted.weights[name]))
        converted.add(name.replace('.down', '.scale'), scale, 'alpha = 1')
    return dict(rank=len(converted.weights[downs[0]]), alpha=1.0) if downs else {}
