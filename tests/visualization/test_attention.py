"""Attention maps, against PyTorch's own multi-head attention with the same weights."""

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models import VisionTransformer
from other_package.mixer import TOASTMixer

from toast_mm.models import TOASTViT
from toast_mm.visualization import attention_maps

ARCH = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
SETTINGS = dict(arch=ARCH, img_size=32, patch_size=8)
IMAGES = torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(0))
GRID = (4, 6)


def build(**settings) -> TOASTViT:
    torch.manual_seed(0)
    backbone = TOASTViT(**SETTINGS, **settings).eval()
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if 'feedback' in name:  # a visible signal
                parameter.normal_(std=0.5)
    return backbone


def all_weights(layer: torch.nn.Module, stream: torch.Tensor) -> torch.Tensor:
    """Attention of all tokens to all, mean over heads, by PyTorch."""
    tokens = layer.ln1(stream).transpose(0, 1)
    _, weights = F.multi_head_attention_forward(
        *(tokens, tokens, tokens),
        embed_dim_to_check=ARCH['embed_dims'],
        num_heads=ARCH['num_heads'],
        in_proj_weight=layer.attn.qkv.weight,
        in_proj_bias=layer.attn.qkv.bias,
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=layer.attn.proj.weight,
        out_proj_bias=layer.attn.proj.bias,
        training=False,
    )
    return weights


def class_token_weights(layer: torch.nn.Module, stream: torch.Tensor) -> torch.Tensor:
    """Attention of the class token to the patches, mean over heads."""
    return all_weights(layer, stream)[:, 0, 1:].unflatten(1, GRID)


@pytest.mark.parametrize(
    ('route', 'out_indices', 'block'),
    [
        (dict(feedback_from='last', feedback_to='first'), -1, 3),
        (dict(feedback_from='middle', feedback_to='first'), (0, 3), 1),
        (dict(feedback_from='last', feedback_to='middle'), -1, 3),
        (dict(feedback_from=3, feedback_to=1), (0, 1), 1),  # the second pass ends at block 1
    ],
)
@torch.no_grad()
def test_attention_of_both_passes(route, out_indices, block):
    backbone = build(**route, out_indices=out_indices, out_type='featmap')
    maps = attention_maps(backbone, IMAGES)

    stream, _ = backbone.embed(IMAGES)
    streams = [stream := backbone.run_block(n, stream) for n in range(4)]
    entering = {n: streams[n - 1] for n in range(1, 4)}
    expected = class_token_weights(backbone.layers[block], entering[block])
    torch.testing.assert_close(maps.first, expected)

    receivers = backbone.route.receivers
    z = streams[receivers.stop - 1]
    signals = backbone.topdown(backbone.ln1(z) if receivers.stop == 4 else z)
    stream, _ = backbone.embed(IMAGES)
    for n in range(block):
        stream = backbone.run_block(n, stream, signals.get(n))
    expected = class_token_weights(backbone.layers[block], stream)
    torch.testing.assert_close(maps.second, expected)
    if block > receivers.start:
        assert (maps.second - maps.first).abs().max() > 1e-3


@torch.no_grad()
def test_without_a_class_token_it_is_the_mean_over_the_patches():
    backbone = build(with_cls_token=False, out_type='featmap')
    layer, (stream, _) = backbone.layers[0], backbone.embed(IMAGES)
    expected = all_weights(layer, stream).mean(1).unflatten(1, GRID)
    torch.testing.assert_close(backbone.attention(0, stream, GRID).mean(1), expected)
    maps = attention_maps(backbone, IMAGES)
    torch.testing.assert_close(maps.second.sum((1, 2)), torch.ones(3))  # no other tokens


@torch.no_grad()
def test_mask_is_the_cosine_with_the_task_embedding():
    backbone = build()
    tokens = backbone(IMAGES)[0]  # the class token of every image
    backbone.topdown.selection.task_embedding.sub_(tokens.mean(0) / 2)  # some below 0, some above
    maps = attention_maps(backbone, IMAGES)
    plain = VisionTransformer(**SETTINGS, out_type='raw')
    plain.load_state_dict(backbone.state_dict(), strict=False)
    plain.eval()
    tokens = plain(IMAGES)[0][:, 1:]
    embedding = backbone.topdown.selection.task_embedding
    cosine = (tokens @ embedding) / (tokens.norm(dim=-1) * embedding.norm())
    torch.testing.assert_close(maps.mask, cosine.clamp(min=0).unflatten(1, GRID))
    assert 0 < (maps.mask == 0).float().mean() < 1


def test_without_signal_both_passes_look_at_the_same():
    backbone = build()
    for layer in backbone.topdown.feedback.layers.values():
        torch.nn.init.zeros_(layer.emit.weight)
    for layer in backbone.layers:
        layer.attn.value_bias_twice = False
    maps = attention_maps(backbone, IMAGES)
    torch.testing.assert_close(maps.first, maps.second)


def test_nothing_stays_behind():
    backbone = build()
    before = backbone(IMAGES)[0]
    assert not attention_maps(backbone, IMAGES).second.requires_grad
    assert not any(module._forward_pre_hooks for module in backbone.modules())
    torch.testing.assert_close(backbone(IMAGES)[0], before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ('backbone', 'sentence'),
    [
        (VisionTransformer(**SETTINGS), r'with a top-down module .*VisionTransformer has none'),
        (TOASTViT(**SETTINGS, feedback_from=None), r'feedback_from set.*this TOASTViT has none'),
        (TOASTMixer(image=32), r'TOASTMixer does not say its attention .* no maps \(B, C, H, W\)'),
    ],
)
def test_backbones_without_such_maps(backbone, sentence):
    with pytest.raises(ValueError, match=sentence):
        attention_maps(backbone, IMAGES[..., :32])
