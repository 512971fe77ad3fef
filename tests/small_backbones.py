"""Small backbones with values everywhere, norms and biases included, that make a difference."""

import torch
from mmpretrain.models import ConvNeXt, VisionTransformer
from other_package.mixer import Mixer, TOASTMixer

from toast_mm.models import TOASTConvNeXt, TOASTViT

VIT = dict(
    arch=dict(embed_dims=24, num_layers=3, num_heads=3, feedforward_channels=32),
    img_size=32,
    patch_size=8,
)
CONVNEXT = dict(arch=dict(depths=[1, 2, 1, 1], channels=[6, 8, 8, 12]), stem_patch_size=2)
MIXER = dict(dim=12, depth=3, image=32, patch=8)  # from outside the package
KINDS = {
    'vit': (TOASTViT, VisionTransformer, VIT),
    'convnext': (TOASTConvNeXt, ConvNeXt, CONVNEXT),
    'mixer': (TOASTMixer, Mixer, MIXER),
}


def scatter(backbone, seed=0):
    """Values that make a difference, the same for the same names whatever else there is."""
    for name, parameter in backbone.named_parameters():
        generator = torch.Generator().manual_seed(seed + sum(map(ord, name)))
        scale = parameter.ndim == 1 and name.endswith(('.weight', 'gamma'))
        values = 0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.data = values + float(scale)
    return backbone


def tuned(kind, tuning, **arguments):
    """A backbone in double precision with a tuning method, and no feedback unless told so."""
    backbone, _, sizes = KINDS[kind]
    arguments = dict(feedback_from=None) | sizes | arguments
    return scatter(backbone(**arguments, tuning=tuning).double()).eval()


def plain(kind, **arguments):
    """mmpretrain's backbone with the same values."""
    _, parent, sizes = KINDS[kind]
    backbone = scatter(parent(**sizes, **arguments).double())
    backbone.eval()  # which mmpretrain's returns nothing of
    return backbone
