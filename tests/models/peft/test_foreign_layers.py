"""Layers of other classes: no method may silently replace what they compute."""

import pytest
import torch
from mmcv.cnn.bricks.transformer import FFN
from mmpretrain.models import ConvNeXt, VisionTransformer
from mmpretrain.models.backbones.convnext import ConvNeXtBlock
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from mmpretrain.models.utils import MultiheadAttention
from small_backbones import CONVNEXT, VIT, tuned
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

from toast_mm.models import SSF, VPT, AdaptFormer, LoRA, TOASTConvNeXt, TOASTViT


class DoubledLinear(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class ClippedLayerNorm(nn.LayerNorm):
    def forward(self, x, *args):
        return super().forward(x).clamp(-1, 1)


class OtherFFN(FFN):
    def forward(self, x, identity=None):
        return super().forward(x, identity) * 3


def replaced_forward():
    layer = nn.Linear(24, 72)
    layer.forward = lambda x: torch.zeros(*x.shape[:-1], 72)
    return layer


def pruned():
    layer = nn.Linear(24, 72)
    return prune.l1_unstructured(layer, 'weight', 0.5)


@pytest.mark.parametrize(
    ('method', 'place', 'layer', 'problem'),
    [
        (LoRA(), 'layers.1.attn.qkv', DoubledLinear(24, 72), 'a .*DoubledLinear'),
        # nn.MultiheadAttention takes its weight and never calls it.
        (
            LoRA(targets=['attn.proj']),
            'layers.0.attn.proj',
            NonDynamicallyQuantizableLinear(24, 24),
            r'a torch\.nn\.modules\.linear\.NonDynamicallyQuantizableLinear',
        ),
        (LoRA(), 'layers.1.attn.qkv', weight_norm(nn.Linear(24, 72)), 'a .*ParametrizedLinear'),
        (LoRA(), 'layers.1.attn.qkv', replaced_forward(), 'a Linear whose forward was replaced'),
        (LoRA(), 'layers.1.attn.qkv', pruned(), 'a Linear whose weight is computed from others'),
        (SSF(), 'layers.2.ln1', ClippedLayerNorm(24), 'a .*ClippedLayerNorm'),
        (SSF(), 'layers.0.attn.qkv', DoubledLinear(24, 72), 'a .*DoubledLinear'),
        (AdaptFormer(), 'layers.1.ffn', OtherFFN(24, 32), 'a .*OtherFFN'),
    ],
)
def test_layers_of_other_classes_are_refused(method, place, layer, problem):
    backbone = tuned('vit', None)
    parent, _, last = place.rpartition('.')
    setattr(backbone.get_submodule(parent), last, layer.double())
    before = type(layer)
    with pytest.raises(ValueError, match=rf'does not fit {place}, which is {problem}: .*exactly'):
        method.inject(backbone)
    assert type(layer) is before


class OtherLayer(TransformerEncoderLayer):
    def forward(self, x):
        return super().forward(x) * 2


class OtherAttention(MultiheadAttention):
    pass


class OtherBlock(ConvNeXtBlock):
    pass


@pytest.mark.parametrize(
    ('parent', 'steered', 'sizes', 'place', 'other'),
    [
        (VisionTransformer, TOASTViT, VIT, 'layers.1', OtherLayer),
        (VisionTransformer, TOASTViT, VIT, 'layers.2.attn', OtherAttention),
        (ConvNeXt, TOASTConvNeXt, CONVNEXT, 'stages.1.1', OtherBlock),
    ],
)
def test_encoder_layers_of_other_classes_are_refused(parent, steered, sizes, place, other):
    class Changed(parent):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.get_submodule(place).__class__ = other

    backbone = type('Steered', (steered, Changed), {})
    with pytest.raises(ValueError, match=rf'steering does not fit {place}, .*{other.__name__}'):
        backbone(**sizes)


def test_blocks_of_another_class_get_prompts_too(image):
    """Prompts enter before a block, whatever it computes."""
    backbone = tuned('vit', None, out_type='raw')

    class Doubled(type(backbone.layers[1])):
        def forward(self, x, *args):
            return 2 * super().forward(x, *args)

    backbone.layers[1].__class__ = Doubled
    VPT(num_prompts=2).inject(backbone)
    stream = backbone.embed(image)[0]
    for layer in backbone.layers:
        prompts = layer.prompts.expand(2, -1, -1)
        stream = layer.forward(torch.cat((stream[:, :1], prompts, stream[:, 1:]), dim=1))
        stream = torch.cat((stream[:, :1], stream[:, 3:]), dim=1)
    torch.testing.assert_close(backbone(image)[0], backbone.ln1(stream))
