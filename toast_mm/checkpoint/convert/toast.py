"""Converter of checkpoints of the published TOAST code (bfshi/TOAST, visual classification).

The code saves TOAST, TOAST-Lite, LoRA and VPT. Its trainer saves in evaluation mode, where low-rank
updates are merged into the weights but also saved on their own. The names do not show whether they
are merged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toast_mm.checkpoint import CheckpointError
from toast_mm.registry import MODELS

from .convnext import convert_convnext
from .report import Converted, rename, without_prefix
from .vit import IMAGENET, convert_vit

_N = r'(\d+)'
_LINEARS = {
    'attn.qkv': 'attn.qkv',
    'attn.proj': 'attn.proj',
    'mlp.fc1': 'ffn.layers.0.0',
    'mlp.fc2': 'ffn.layers.1',
}
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
# What the methods add to a backbone.
ADDED = r'decoders\.|prompt|top_down|deep_prompt|.*\.lora_[AB]$'


def convert_toast(
    weights: Mapping[str, Tensor],
    merged: bool | None = None,
    start: Mapping[str, Tensor] | None = None,
) -> Converted:
    """Convert weights that the published code saved to the names of this project.

    It recognises the model by the names: TOAST and TOAST-Lite on ViT and ConvNeXt, LoRA and VPT on
    ViT, each as a bare backbone or a classifier.

    Args:
        weights: The weights in ``model`` (a pre-tuned backbone) or in
            ``model_state_dict`` (a classifier).
        merged: Whether the low-rank updates of TOAST-Lite or LoRA are merged into the weights, as
            in evaluation mode of the published code. Merged updates are subtracted, since weights
            of this project never include them. None suffices if there are no updates, or with
            ``start``. Defaults to None.
        start: Weights that the tuning started from, published or converted: the pre-tuned model of
            TOAST-Lite or the base of LoRA. They show whether updates are merged. Defaults to None.

    Raises:
        CheckpointError: It is not such a file, the weights do not fit together, or it is unknown
            whether the updates are merged.
    """
    weights = without_prefix(without_prefix(weights, ('module.',)), ('enc.',))
    weights = {name.replace('head.last_layer.', 'head.'): t for name, t in weights.items()}
    added = {name: t for name, t in weights.items() if re.match(ADDED, name)}
    plain = {name: tensor for name, tensor in weights.items() if name not in added}
    if 'prompt' in added and 'decoders.0.linear.weight' in added:
        converted, backbone = _convert_topdown(added, plain)
    elif 'blocks.0.attn.qkv.weight' in plain and any('.lora_A' in name for name in added):
        converted, backbone = _convert_lora(added, plain)
    elif 'blocks.0.attn.qkv.weight' in plain and 'prompt_embeddings' in added:
        converted, backbone = _convert_vpt(added, plain)
    else:
        raise CheckpointError(
            'not a published checkpoint of TOAST (prompt or decoders are missing), nor of LoRA '
            '(lora_A) or VPT (prompt_embeddings) on a ViT'
        )
    why = 'ImageNet statistics, as in the published code'
    converted.preprocessing = dict(IMAGENET, why=why)
    converted.caveat = ''
    converted.compare(backbone)
    if not converted.missing:
        _take_out_updates(converted, merged, start)
    return converted


def _convert_topdown(
    added: Mapping[str, Tensor], plain: Mapping[str, Tensor]
) -> tuple[Converted, nn.Module]:
    is_vit = added['decoders.0.linear.weight'].ndim == 2
    converted = convert_vit(plain) if is_vit else convert_convnext(plain)
    rename(added, RULES, converted)
    lite = _add_scales(converted, '.down', '.scale')
    converted.kind = f'TOAST{"-Lite" if lite else ""} on {"ViT" if is_vit else "ConvNeXt"}'
    if lite:
        converted.settings['lite'] = lite
    if is_vit:
        return converted, _build_vit(converted)
    return converted, _build('toast_mm.TOASTConvNeXt', converted.settings)


def _convert_lora(
    added: Mapping[str, Tensor], plain: Mapping[str, Tensor]
) -> tuple[Converted, nn.Module]:
    converted = convert_vit(plain)
    rules = []
    for layer, here in _LINEARS.items():
        own = rf'backbone.layers.\1.{here}'
        rules += [
            (rf'blocks\.{_N}\.{re.escape(layer)}\.lora_A', f'{own}.lora_down.weight'),
            (rf'blocks\.{_N}\.{re.escape(layer)}\.lora_B', f'{own}.lora_up.weight'),
        ]
    rename(added, rules, converted)
    updates = _add_scales(converted, '.lora_down.weight', '.scaling')
    converted.kind = 'LoRA on ViT'
    tuning = dict(type='toast_mm.LoRA', **updates)
    layers = {
        m[1]: None
        for name in converted.weights
        if (m := re.fullmatch(r'backbone\.layers\.\d+\.(.*)\.scaling', name))
    }
    if [*layers] != ['attn.qkv']:
        tuning['targets'] = [*layers]
    converted.settings |= dict(feedback_from=None, tuning=tuning)
    return converted, _build_vit(converted)


def _convert_vpt(
    added: Mapping[str, Tensor], plain: Mapping[str, Tensor]
) -> tuple[Converted, nn.Module]:
    converted = convert_vit(plain)
    converted.unused += [name for name in added if not name.startswith(('prompt_', 'deep_prompt'))]
    first, deep = added['prompt_embeddings'], added.get('deep_prompt_embeddings')
    prompts = [('prompt_embeddings', first[0])]
    prompts += [] if deep is None else [('deep_prompt_embeddings', own) for own in deep]
    projection = [name for name in ('prompt_proj.weight', 'prompt_proj.bias') if name in added]
    for block, (source, own) in enumerate(prompts):
        if projection:  # the blocks get the projected prompts
            own = F.linear(own, *(added[name] for name in projection))
        note = 'projected' if projection else ''
        name = f'backbone.layers.{block}.prompts'
        converted.add(name, own, source, *projection, note=note)
    converted.kind = 'VPT on ViT'
    tuning = dict(type='toast_mm.VPT', num_prompts=first.shape[1], deep=deep is not None)
    converted.settings |= dict(feedback_from=None, tuning=tuning)
    return converted, _build_vit(converted)


def _build_vit(converted: Converted) -> nn.Module:
    settings = dict(converted.settings)
    if isinstance(settings['arch'], dict):
        settings['arch'] = dict(settings['arch'], num_heads=1)
    with torch.device('meta'):
        return _build('toast_mm.TOASTViT', settings)


def _build(backbone: str, settings: Mapping[str, Any]) -> nn.Module:
    return MODELS.build(dict(settings, type=backbone))


def _add_scales(converted: Converted, down: str, scale: str) -> dict:
    """Add the scales of the updates: the published alpha is 1 and is not in the file."""
    downs = [name for name in converted.weights if name.endswith(down)]
    for name in downs:
        value = torch.tensor(1.0 / len(converted.weights[name]))
        converted.add(name.removesuffix(down) + scale, value, 'alpha = 1')
    return dict(rank=len(converted.weights[downs[0]]), alpha=1.0) if downs else {}


def _take_out_updates(
    converted: Converted, merged: bool | None, start: Mapping[str, Tensor] | None
) -> None:
    """Subtract the updates of TOAST-Lite or LoRA from the weights, if they are merged."""
    updates = _updates(converted.weights)
    if not any(update.any() for update in updates.values()):
        return  # there are none, or they add nothing
    if start is not None:
        merged = _are_merged(converted.weights, updates, _own_names(start))
    if merged is None:
        raise CheckpointError(
            f'nothing shows whether the low-rank updates of {converted.kind} are merged into the '
            'weights, as the trainer of the published code saves them: add --merged or --unmerged, '
            'or give the file that the tuning started from by --pretuned'
        )
    for name, update in updates.items() if merged else ():
        converted.weights[name] = converted.weights[name] - update
        converted.resized[name] = 'without its update'
    told = 'merged into the weights and are now separate' if merged else 'not merged'
    converted.caveat = f'The low-rank updates were {told}.'


def _updates(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Low-rank updates by the names of the weights that they belong to."""
    updates = {}
    for name, down in weights.items():
        if match := re.fullmatch(r'(.*)\.updates\.(\w+)\.down', name):
            target, up = f'{match[1]}.{match[2]}.weight', name.removesuffix('.down') + '.up'
        elif match := re.fullmatch(r'(.*)\.lora_down\.weight', name):
            target, up = f'{match[1]}.weight', f'{match[1]}.lora_up.weight'
        else:
            continue
        update = weights[up].float() @ down.float() / len(down)
        if weights[target].ndim == 4 and target.endswith('descend.weight'):
            update = update.T  # a transposed convolution has its inputs first
        updates[target] = update.reshape(weights[target].shape)
    return updates


def _are_merged(
    weights: Mapping[str, Tensor], updates: Mapping[str, Tensor], start: Mapping[str, Tensor]
) -> bool:
    """Whether the weights are those of the start with the updates merged."""
    found = set()
    for name, update in updates.items():
        before = start.get(name)
        if before is None or before.shape != update.shape:
            raise CheckpointError(f'the file of --pretuned has no weight {name} of this shape')
        change = weights[name].float() - before.float()
        limit = 0.01 * update.abs().max() + 1e-6 * before.abs().max()  # rounding of both
        plain = change.abs().max() <= limit
        with_update = (change - update).abs().max() <= limit
        if not plain and not with_update:
            raise CheckpointError(
                f'the tuning did not start from the file of --pretuned: {name} equals neither the '
                'weight in this file nor that weight with its update'
            )
        found |= set() if plain and with_update else {bool(with_update)}
    if len(found) > 1:
        raise CheckpointError('some updates are merged into the weights and some are not')
    return found.pop() if found else False


def _own_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring the weights that a tuning started from to this project's names."""
    own = ('topdown.', 'layers.', 'stages.')
    bare = without_prefix(weights, ('backbone.',))
    if any(name.startswith(own) and '.dwconv.' not in name for name in bare):
        return {f'backbone.{name}': tensor for name, tensor in bare.items()}
    names = {re.sub('^(?:module\\.)?(?:enc\\.)?', '', name) for name in weights}
    return (convert_toast if 'prompt' in names else convert_vit)(weights).weights
