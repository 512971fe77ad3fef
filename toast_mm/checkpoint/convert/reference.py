"""Comparing a converted model with timm's model of the same weights.

Weights do not determine a model: they show neither the activation nor the epsilon of the norms, nor
whether the model uses rotary position embeddings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import isqrt
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from toast_mm.checkpoint import CheckpointError

UNTOLD = (
    'the weights do not show what the model computes ({}): give its name in timm by --timm NAME; '
    "the features of timm's model and of the converted one are then compared"
)

TAKEN = (
    'The file does not show the activation (assumed: GELU) and the epsilon of the norms (assumed: '
    "1e-6). --timm NAME, with the model's name in timm, compares its features with timm's."
)

# mmcv's and mmpretrain's configs of timm's activations, by the name of their class.
ACTIVATIONS = {
    'GELU': dict(type='GELU'),
    'GELUTanh': dict(type='GELU', approximate='tanh'),
    'QuickGELU': dict(type='mmpretrain.QuickGELU'),
}


def build_timm(name: str | None) -> nn.Module | None:
    """Build timm's model of this name without head and weights; None without a name.

    Raises:
        CheckpointError: timm has no such model.
    """
    if name is None:
        return None
    try:
        return timm.create_model(name, pretrained=False, num_classes=0)
    except RuntimeError as error:
        raise CheckpointError(f'--timm {name}: {error}') from error


def load_timm(model: nn.Module, weights: Mapping[str, Tensor], beside: str) -> None:
    """Load weights with timm's names into timm's model.

    Args:
        model: timm's model.
        weights: The weights; they may include layers after the backbone.
        beside: Pattern of whole names of weights that may stay unused.

    Raises:
        CheckpointError: The weights do not belong to this model.
    """
    positions, own = weights.get('pos_embed'), model.state_dict()
    if positions is not None and 'pos_embed' in own and own['pos_embed'].shape != positions.shape:
        patch = weights['patch_embed.proj.weight'].shape[-1]
        cast(Any, model).set_input_size(img_size=isqrt(positions.shape[1]) * patch)
        own = model.state_dict()
    if any('.ls1.' in name for name in own):  # older files of DeiT-3
        weights = {re.sub(r'\.gamma_(\d)$', r'.ls\1.gamma', n): t for n, t in weights.items()}
    missing = [name for name in own if name not in weights and not name.startswith('head.')]
    surplus = [name for name in weights if name not in own and not re.fullmatch(beside, name)]
    shapes = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    for problem, names in (('lack', missing), ('hold more', surplus), ('differ in shape', shapes)):
        if names:
            raise CheckpointError(
                f'the weights do not belong to {name_of(model)}: they {problem}: {", ".join(names)}'
            )
    model.load_state_dict({n: t for n, t in weights.items() if n in own}, strict=False)


@torch.no_grad()
def check_same_features(
    model: nn.Module,
    features: Callable[[Tensor], Tensor],
    backbone: nn.Module,
    weights: Mapping[str, Tensor],
    size: int,
) -> None:
    """Check that a converted backbone and timm's model give the same features of a random image.

    Args:
        model: timm's model with the original weights.
        features: Computes those features of timm's model that the backbone returns.
        backbone: mmpretrain's backbone; the converted weights are loaded into it.
        weights: The converted weights, with names that begin with ``backbone.``.
        size: Side of the image.

    Raises:
        CheckpointError: The features differ by more than rounding.
    """
    start = 'backbone.'
    own = {name.removeprefix(start): t for name, t in weights.items() if name.startswith(start)}
    backbone.load_state_dict(own)
    for module in (model, backbone):
        module.double()  # so that rounding does not hide a different epsilon
        module.eval()
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).double()
    expected, given = features(image), backbone(image)[0]
    difference = (given - expected).abs().max() / expected.abs().max()
    if not difference <= 1e-6:  # also true for NaN
        raise CheckpointError(
            f"{name_of(model)} does not compute what mmpretrain's {type(backbone).__name__} does: "
            f'their features differ by {difference:.1g} of the largest'
        )


def activation(module: nn.Module) -> dict[str, Any] | None:
    """Config of an activation of timm; None for the usual GELU, or if there is no config."""
    found = ACTIVATIONS.get(type(module).__name__)
    if isinstance(module, nn.GELU) and module.approximate == 'tanh':
        found = ACTIVATIONS['GELUTanh']
    return None if found == ACTIVATIONS['GELU'] else found


def preprocessing(model: nn.Module) -> dict[str, Any]:
    """Mean and standard deviation in [0, 255] from timm's config of a model."""
    config = cast(Any, model).pretrained_cfg
    mean, std = ([round(255 * value, 3) for value in config[key]] for key in ('mean', 'std'))
    return dict(mean=mean, std=std, why=f"from timm's config of {name_of(model)}")


def name_of(model: nn.Module) -> str:
    """timm's name of a model, with the tag of its weights if there is one."""
    config = cast(Any, model).pretrained_cfg
    tag = f'.{config["tag"]}' if config.get('tag') else ''
    return f'{config["architecture"]}{tag}'
