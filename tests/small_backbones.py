"""Small backbones whose parameters, including norms and biases, all have an effect."""

import timm
import torch
from mmpretrain.models import ConvNeXt, VisionTransformer
from other_package.mixer import Mixer, TOASTMixer
from torch import nn

from toast_mm.models import TOASTConvNeXt, TOASTTimm, TOASTViT

VIT = dict(
    arch=dict(embed_dims=24, num_layers=3, num_heads=3, feedforward_channels=32),
    img_size=32,
    patch_size=8,
)
CONVNEXT = dict(arch=dict(depths=[1, 2, 1, 1], channels=[6, 8, 8, 12]), stem_patch_size=2)
MIXER = dict(dim=12, depth=3, image=32, patch=8)  # from outside the package
SMALL = dict(img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=2)
TIMM = dict(model_name='vit_small_patch14_reg4_dinov2', **SMALL)
EVA = dict(model_name='eva02_tiny_patch14_224', **SMALL)  # with projections of their own
STAGES = dict(
    model_name='convnext_tiny', dims=(6, 8, 8, 12), depths=(1, 2, 1, 1), out_type='avg_featmap'
)
SWIN = dict(
    model_name='swin_tiny_patch4_window7_224',
    embed_dim=24,
    depths=(1, 2),
    num_heads=(2, 2),
    drop_path_rate=0.0,
    img_size=32,
    out_type='avg_featmap',
)
BATCH_NORM = dict(model_name='test_efficientnet', out_type='avg_featmap')


class PlainTimm(nn.Module):
    """A model of timm: its class token."""

    def __init__(self, **arguments):
        super().__init__()
        self.model = timm.create_model(num_classes=0, dynamic_img_size=True, **arguments)
        self.model.fc_norm = nn.Identity()

    def forward(self, image):
        return (self.model.forward_features(image)[:, 0],)


class PlainStages(nn.Module):
    """A model of stages of timm: what its classifier takes."""

    def __init__(self, out_type, **arguments):
        super().__init__()
        self.model = timm.create_model(num_classes=0, **arguments)

    def forward(self, image):
        return (self.model(image),)


KINDS = {
    'vit': (TOASTViT, VisionTransformer, VIT),
    'convnext': (TOASTConvNeXt, ConvNeXt, CONVNEXT),
    'timm': (TOASTTimm, PlainTimm, TIMM),
    'eva': (TOASTTimm, PlainTimm, EVA),
    'stages': (TOASTTimm, PlainStages, STAGES),
    'swin': (TOASTTimm, PlainStages, SWIN),
    'batch norm': (TOASTTimm, PlainStages, BATCH_NORM),
    'mixer': (TOASTMixer, Mixer, MIXER),
}


def scatter(backbone, seed=0):
    """Set random values that depend only on the names of the parameters."""
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
