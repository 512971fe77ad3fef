"""Converter of Vision Transformers of timm, DeiT, JAX and Hugging Face to mmpretrain's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isqrt
from typing import Any, cast

import torch
from mmpretrain.models import VisionTransformer
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from toast_mm.checkpoint import CheckpointError

from .reference import TAKEN, UNTOLD, activation, check_same_features, load_timm, preprocessing
from .report import Converted, rename, without_prefix

IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
HALF = dict(mean=[127.5] * 3, std=[127.5] * 3)

_N, _W = r'(\d+)', r'(weight|bias)'

# Names of timm and DeiT.
TIMM = [
    (r'(cls_token|pos_embed)', r'backbone.\1'),
    (rf'patch_embed\.proj\.{_W}', r'backbone.patch_embed.projection.\1'),
    (rf'norm_pre\.{_W}', r'backbone.pre_norm.\1'),
    (rf'blocks\.{_N}\.norm([12])\.{_W}', r'backbone.layers.\1.ln\2.\3'),
    (rf'blocks\.{_N}\.attn\.(qkv|proj)\.{_W}', r'backbone.layers.\1.attn.\2.\3'),
    (rf'blocks\.{_N}\.(?:ls1\.gamma|gamma_1)', r'backbone.layers.\1.attn.gamma1.weight'),
    (rf'blocks\.{_N}\.(?:ls2\.gamma|gamma_2)', r'backbone.layers.\1.ffn.gamma2.weight'),
    (rf'blocks\.{_N}\.mlp\.fc1\.{_W}', r'backbone.layers.\1.ffn.layers.0.0.\2'),
    (rf'blocks\.{_N}\.mlp\.fc2\.{_W}', r'backbone.layers.\1.ffn.layers.1.\2'),
    (rf'norm\.{_W}', r'backbone.ln1.\1'),
    (rf'pre_logits\.(?:fc\.)?{_W}', r'head.layers.pre_logits.\1'),
    (rf'head\.{_W}', r'head.layers.head.\1'),
]

# To the names of timm.
HUGGING_FACE = [
    (r'embeddings\.cls_token', 'cls_token'),
    (r'embeddings\.position_embeddings', 'pos_embed'),
    (rf'embeddings\.patch_embeddings\.projection\.{_W}', r'patch_embed.proj.\1'),
    (rf'encoder\.layer\.{_N}\.layernorm_before\.{_W}', r'blocks.\1.norm1.\2'),
    (rf'encoder\.layer\.{_N}\.layernorm_after\.{_W}', r'blocks.\1.norm2.\2'),
    (
        rf'encoder\.layer\.{_N}\.attention\.attention\.(query|key|value)\.{_W}',
        r'blocks.\1.attn.\2.\3',
    ),
    (rf'encoder\.layer\.{_N}\.attention\.output\.dense\.{_W}', r'blocks.\1.attn.proj.\2'),
    (rf'encoder\.layer\.{_N}\.intermediate\.dense\.{_W}', r'blocks.\1.mlp.fc1.\2'),
    (rf'encoder\.layer\.{_N}\.output\.dense\.{_W}', r'blocks.\1.mlp.fc2.\2'),
    (rf'layernorm\.{_W}', r'norm.\1'),
    (rf'classifier\.{_W}', r'head.\1'),
]
_LAYER, _P = rf'Transformer/encoderblock_{_N}', r'(kernel|scale|bias)'
JAX = [
    (r'cls', 'cls_token'),
    (r'Transformer/posembed_input/pos_embedding|pos_embedding', 'pos_embed'),
    (rf'embedding/{_P}', r'patch_embed.proj.\1'),
    (rf'{_LAYER}/LayerNorm_0/{_P}', r'blocks.\1.norm1.\2'),
    (rf'{_LAYER}/LayerNorm_[12]/{_P}', r'blocks.\1.norm2.\2'),
    (
        rf'{_LAYER}/MultiHeadDotProductAttention_[01]/(query|key|value)/{_P}',
        r'blocks.\1.attn.\2.\3',
    ),
    (rf'{_LAYER}/MultiHeadDotProductAttention_[01]/out/{_P}', r'blocks.\1.attn.proj.\2'),
    (rf'{_LAYER}/MlpBlock_[03]/Dense_0/{_P}', r'blocks.\1.mlp.fc1.\2'),
    (rf'{_LAYER}/MlpBlock_[03]/Dense_1/{_P}', r'blocks.\1.mlp.fc2.\2'),
    (rf'Transformer/encoder_norm/{_P}', r'norm.\1'),
    (rf'pre_logits/{_P}', r'pre_logits.\1'),
    (rf'head/{_P}', r'head.\1'),
]

# Weights after a ViT, or used only for its pre-training.
BESIDE = (
    r'(?:vit\.)?(?:head|pre_logits|fc_norm|attn_pool|pooler|classifier|decoder)\..*|MAPHead_0/.*'
    r'|decoder_.*|(?:vit\.)?(?:embeddings\.)?mask_token'
)
# Ambiguous names: models that compute different things have them.
AMBIGUOUS = {
    r'norm_pre\..*': 'with norm_pre there are models of two activations, and some rotate positions',
    r'blocks\.\d+\.gamma_1': 'gamma_1 is a name in DeiT-3 and in models that rotate positions',
    r'attn_pool\..*|MAPHead_0/.*': 'it pools by attention, and there are models of two activations',
    r'fc_norm\..*': 'its norm follows the pooling, and there are several kinds of such models',
}


def convert_vit(
    weights: Mapping[str, Tensor],
    container: str | None = None,
    img_size: int | None = None,
    reference: nn.Module | None = None,
) -> Converted:
    """Convert the weights of a ViT to the names of mmpretrain's ``VisionTransformer``.

    A model that computes something else than mmpretrain's is an error. If the weights do not show
    which model they belong to, a reference is needed.

    Args:
        weights: Weights of timm or DeiT (also in a ``model``), of a JAX ``.npz``
            (ImageNet-21k, AugReg, Big Vision) or of Hugging Face.
        container: Name of the entry that held them in the file.
        img_size: Side of the images that position embeddings are resized to.
            Defaults to that of the weights.
        reference: timm's model that the weights belong to; they are loaded into it here. It also
            gives what weights do not show: the number of heads, the activation, the epsilon of the
            norms and the preprocessing. Defaults to None.

    Raises:
        CheckpointError: The weights are not of a ViT, do not fit together, belong to a model that
            mmpretrain does not have, or do not show which model they belong to.
    """
    converted = Converted(*_recognise(weights, container))
    named, origin = _as_timm(weights, converted)
    rename(_with_class_position(named, converted), TIMM, converted)
    converted.sources = {
        new: [name for old in olds for name in origin.get(old, [old])]
        for new, olds in converted.sources.items()
    }
    converted.unused = [n for old in converted.unused for n in origin.get(old, [old])]
    converted.refuse_unknown(BESIDE, 'VisionTransformer')
    settings = _settings(converted.weights)
    if reference is None:
        _check_telling([*named, *converted.unused])
    else:
        load_timm(reference, named, BESIDE)
        converted.preprocessing = preprocessing(reference)
        settings |= _settings_of_timm(reference, settings['arch'], named)
    with torch.device('meta'):
        converted.compare(_build(settings))
    if reference is None:
        converted.caveat = TAKEN
    elif not converted.missing:
        features = cast(Any, reference).forward_features
        vit = _build(settings)
        check_same_features(reference, features, vit, converted.weights, settings['img_size'])
        if 'cls_token' in named and cast(Any, reference).global_pool != 'token':
            converted.drop_head()
    if any(re.fullmatch(r'(?:fc_norm|attn_pool)\..*', name) for name in converted.unused):
        converted.drop_head()
    _resize_positions(converted, settings, img_size)
    converted.settings = dict(settings, arch=_named(settings['arch']))
    return converted


def _check_telling(names: Sequence[str]) -> None:
    """Check that the names do not belong to several models that compute different things."""
    for pattern, why in AMBIGUOUS.items():
        if any(re.fullmatch(pattern, name) for name in names):
            raise CheckpointError(UNTOLD.format(why))
    if 'cls_token' not in names:
        why = 'it has no class token, and there are such models of two activations'
        raise CheckpointError(UNTOLD.format(why))


def _build(settings: Mapping[str, Any]) -> VisionTransformer:
    arch = dict(num_heads=1) | settings['arch']  # unknown here, and without effect on shapes
    return VisionTransformer(**dict(settings, arch=arch), out_type='raw')


def _settings_of_timm(
    model: nn.Module, arch: Mapping[str, int], named: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Settings of timm's model that the weights do not show."""
    block = cast(Any, model).blocks[0]
    settings: dict[str, Any] = dict(arch=dict(arch, num_heads=block.attn.num_heads))
    if block.norm1.eps != 1e-6:
        settings['norm_cfg'] = dict(type='LN', eps=block.norm1.eps)
    if act_cfg := activation(block.mlp.act):
        settings['layer_cfgs'] = dict(act_cfg=act_cfg)
    if 'norm.weight' not in named:
        settings['final_norm'] = False
    return settings


def _named(arch: dict[str, int]) -> str | dict[str, int | str]:
    """mmpretrain's name of an architecture; the number of heads is unknown if it has none."""
    for name, known in VisionTransformer.arch_zoo.items():
        if arch.items() <= known.items():
            return name
    return dict(num_heads='?') | arch


def _recognise(weights: Mapping[str, Tensor], container: str | None) -> tuple[str, dict]:
    if any(name.endswith('embedding/kernel') for name in weights):
        return 'ViT of JAX', dict(HALF, why='JAX weights expect images in [-1, 1]')
    if any(name.endswith('embeddings.patch_embeddings.projection.weight') for name in weights):
        why = 'as for google/vit; for other models see preprocessor_config.json'
        return 'ViT of Hugging Face', dict(HALF, why=why)
    if not any(name.endswith('patch_embed.proj.weight') for name in weights):
        raise CheckpointError(
            'not a ViT of timm, DeiT, JAX or Hugging Face: there is no patch embedding'
        )
    if 'dist_token' in weights or 'reg_token' in weights:
        raise CheckpointError('mmpretrain has no ViT with a distillation or register token')
    if container == 'model':
        return 'ViT of DeiT', dict(IMAGENET, why='ImageNet statistics, as for all of DeiT')
    classes = {len(tensor) for name, tensor in weights.items() if name.endswith('head.weight')}
    if classes & {21841, 21843}:
        return 'ViT of timm', dict(HALF, why="AugReg's, since the head is for ImageNet-21k")
    why = "DeiT's; AugReg weights of timm expect 127.5 everywhere: see its pretrained_cfg"
    return 'ViT of timm', dict(IMAGENET, why=why)


def _as_timm(
    weights: Mapping[str, Tensor], converted: Converted
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Rename weights to the names of timm; also return the names that each comes from."""
    first = Converted(converted.kind)
    if 'JAX' in converted.kind:
        weights = without_prefix(weights, ('opt/target/', 'params/img/', 'params/'))
        rename(weights, JAX, first)
        first.weights = {_torch_name(n): _from_jax(n, t) for n, t in first.weights.items()}
        first.sources = {_torch_name(n): s for n, s in first.sources.items()}
    elif 'Hugging Face' in converted.kind:
        rename(without_prefix(weights, ('vit.',)), HUGGING_FACE, first)
    else:
        weights = without_prefix(weights, ('module.',))
        return dict(weights), {}
    converted.unused += first.unused
    for name in [name for name in first.weights if '.attn.query.' in name]:
        parts = [name.replace('query', part) for part in ('query', 'key', 'value')]
        joined = name.replace('query', 'qkv')
        if all(part in first.weights for part in parts):
            first.weights[joined] = torch.cat([first.weights.pop(part) for part in parts])
            first.sources[joined] = [s for part in parts for s in first.sources.pop(part)]
    return first.weights, first.sources


def _with_class_position(
    weights: Mapping[str, Tensor], converted: Converted
) -> Mapping[str, Tensor]:
    """Add a position of zero for a class token that has no position, which is the same."""
    positions = weights.get('pos_embed')
    if (
        'cls_token' not in weights
        or positions is None
        or isqrt(positions.shape[1]) ** 2 != positions.shape[1]
    ):
        return weights
    converted.resized['backbone.pos_embed'] = 'with a position of zero for the class token'
    zero = torch.zeros_like(positions[:, :1])
    return dict(weights, pos_embed=torch.cat([zero, positions], dim=1))


def _torch_name(name: str) -> str:
    return re.sub(r'\.(kernel|scale)$', '.weight', name)


def _from_jax(name: str, tensor: Tensor) -> Tensor:
    """Transpose kernels, which have their inputs first, and flatten the axis of heads."""
    if name.endswith('.proj.kernel') and name.startswith('patch_embed'):
        return tensor.permute(3, 2, 0, 1)
    if name.endswith('attn.proj.kernel'):
        return tensor.flatten(0, 1).T  # heads, channels of a head, outputs
    if re.search(r'attn\.(query|key|value)\.kernel', name):
        return tensor.flatten(1).T
    if re.search(r'attn\.(query|key|value)\.bias', name):
        return tensor.flatten()
    return tensor.T if name.endswith('.kernel') else tensor


def _settings(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of the ViT that the weights fit, except the number of heads."""
    layers = {int(m[1]) for n in weights if (m := re.match(r'backbone\.layers\.(\d+)\.', n))}
    try:
        dim, _, patch, _ = weights['backbone.patch_embed.projection.weight'].shape
        tokens = weights['backbone.pos_embed'].shape[1]
        hidden = len(weights['backbone.layers.0.ffn.layers.0.0.weight'])
    except KeyError as error:
        raise CheckpointError(f'not a complete ViT: {error.args[0]} is missing') from None
    with_cls_token = 'backbone.cls_token' in weights
    arch = dict(embed_dims=dim, num_layers=max(layers) + 1, feedforward_channels=hidden)
    settings = dict(arch=arch, img_size=isqrt(tokens - with_cls_token) * patch, patch_size=patch)
    if not with_cls_token:
        settings['with_cls_token'] = False
    if 'backbone.layers.0.attn.qkv.bias' not in weights:
        settings['qkv_bias'] = False
    if 'backbone.layers.0.attn.gamma1.weight' in weights:
        settings['layer_scale_init_value'] = 1e-4
    if 'backbone.pre_norm.weight' in weights:
        settings['pre_norm'] = True
    if ('backbone.patch_embed.projection.bias' in weights) == settings.get('pre_norm', False):
        settings['patch_cfg'] = dict(bias='pre_norm' in settings)
    return settings


def _resize_positions(converted: Converted, settings: dict, img_size: int | None) -> None:
    if img_size is None or img_size == settings['img_size']:
        return
    if img_size < settings['patch_size']:
        raise CheckpointError(
            f'position embeddings cannot be resized to images of {img_size} pixels: these are '
            f'smaller than a patch of {settings["patch_size"]} pixels'
        )
    sides = (settings['img_size'] // settings['patch_size'], img_size // settings['patch_size'])
    converted.weights['backbone.pos_embed'] = resize_pos_embed(
        converted.weights['backbone.pos_embed'],
        *((side, side) for side in sides),
        num_extra_tokens=int(settings.get('with_cls_token', True)),
    )
    converted.resized['backbone.pos_embed'] = f'{sides[0]} x {sides[0]} to {sides[1]} x {sides[1]}'
    settings['img_size'] = img_size
