"""Attention maps, against PyTorch's own multi-head attention with the same weights."""

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models import VisionTransformer
from other_package.mixer import TOASTMixer
from small_backbones import KINDS, scatter
from torch.nn.parallel import DistributedDataParallel

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


def all_weights(layer: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Attention of all tokens to all ``(B, heads, N, N)``, by PyTorch."""
    tokens = layer.ln1(tokens).transpose(0, 1)
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
        average_attn_weights=False,
    )
    return weights


def class_token_weights(layer: torch.nn.Module, stream: torch.Tensor) -> torch.Tensor:
    """Attention of the class token to the patches, by head."""
    return all_weights(layer, stream)[:, :, 0, 1:].unflatten(2, GRID)


def only(maps: dict):
    (found,) = maps.values()
    return found


ROUTES = [
    (dict(feedback_from='last', feedback_to='first'), -1, 3),
    (dict(feedback_from='middle', feedback_to='first'), (0, 3), 1),
    (dict(feedback_from='last', feedback_to='middle'), -1, 3),
    (dict(feedback_from=3, feedback_to=1), (0, 1), 1),  # the second pass ends at block 1
]


@pytest.mark.parametrize(('route', 'out_indices', 'default'), ROUTES)
@torch.no_grad()
def test_attention_of_both_passes(route, out_indices, default):
    """Of every block, by head, and None in a pass that does not run it."""
    backbone = build(**route, out_indices=out_indices, out_type='featmap')
    assert set(attention_maps(backbone, IMAGES)) == {default}
    read, sent, last = (
        backbone.route.feedback_from,
        backbone.route.feedback_to,
        max(backbone.out_indices),
    )
    maps = attention_maps(backbone, IMAGES, range(max(read, last + 1)))

    stream, _ = backbone.embed(IMAGES)
    streams = {-1: stream} | {n: (stream := backbone.layers[n](stream)) for n in range(read)}
    for n in range(len(maps)):
        if n < read:
            expected = class_token_weights(backbone.layers[n], streams[n - 1])
            torch.testing.assert_close(maps[n].first, expected)
        else:
            assert maps[n].first is None

    z = streams[read - 1]
    signals = backbone.topdown(backbone.ln1(z) if read == 4 else z)
    stream = streams[sent - 1]
    for n in range(len(maps)):
        if not sent <= n <= last:
            assert maps[n].second is None and maps[n].difference is None
            continue
        expected = class_token_weights(backbone.layers[n], stream)
        torch.testing.assert_close(maps[n].second, expected)
        stream = backbone.layers[n](stream, signals.get(n))
        if sent < n < read:
            assert maps[n].difference.abs().max() > 1e-3
            torch.testing.assert_close(maps[n].first + maps[n].difference, expected)


@torch.no_grad()
def test_mean_over_the_heads():
    maps = only(attention_maps(build(), IMAGES))
    mean = maps.mean()
    assert mean.first.shape == mean.second.shape == mean.difference.shape == (3, 1, *GRID)
    torch.testing.assert_close(mean.first[:, 0], (maps.first[:, 0] + maps.first[:, 1]) / 2)
    torch.testing.assert_close(mean.difference, mean.second - mean.first)
    assert mean.mask is maps.mask and mean.what == 'attention'


@torch.no_grad()
def test_blocks_are_numbers_from_either_end():
    backbone = build()
    maps = attention_maps(backbone, IMAGES, [-1, 0, 3])
    assert list(maps) == [3, 0]
    assert list(attention_maps(backbone, IMAGES, -2)) == [2]


@torch.no_grad()
@pytest.mark.parametrize(
    'tuning', [None, dict(type='toast_mm.LoRA', rank=2), dict(type='toast_mm.BitFit')]
)
def test_without_a_top_down_module_there_is_one_pass(tuning):
    backbone = build(feedback_from=None, tuning=tuning, out_indices=(1, 2))
    scatter(backbone)
    maps = attention_maps(backbone, IMAGES, [0, 2])
    assert attention_maps(backbone, IMAGES).keys() == {2}
    streams = {-1: backbone.embed(IMAGES)[0]}
    for n in range(3):
        streams[n] = backbone.layers[n](streams[n - 1])
    for n, found in maps.items():
        layer = backbone.layers[n]
        if tuning and 'LoRA' in tuning['type']:  # the weights that it stands for
            weight, bias = layer.attn.qkv.effective_weight()
            layer.attn.qkv = torch.nn.Linear(16, 48)
            layer.attn.qkv.weight.copy_(weight), layer.attn.qkv.bias.copy_(bias)
        torch.testing.assert_close(found.first, class_token_weights(layer, streams[n - 1]))
        assert found.mask is found.second is found.difference is found.mean().second is None


@torch.no_grad()
@pytest.mark.parametrize('deep', [True, False])
def test_prompts_are_asked_but_not_shown(deep):
    """Prompts of VPT stand between the class token and the patches in every block."""
    tuning = dict(type='toast_mm.VPT', num_prompts=5, deep=deep)
    backbone = build(feedback_from=None, tuning=tuning)
    prompts = [layer.prompts for layer in (backbone.layers if deep else backbone.layers[:1])]
    plain = VisionTransformer(**SETTINGS)
    plain.load_state_dict(backbone.state_dict(), strict=False)
    plain.eval()
    stream, _ = backbone.embed(IMAGES)
    for n, layer in enumerate(plain.layers[:3]):
        if n < len(prompts):
            rest = stream[:, 1 + 5 * (n > 0) :]
            stream = torch.cat((stream[:, :1], prompts[n].expand(3, -1, -1), rest), dim=1)
        expected = all_weights(layer, stream)[:, :, 0, 6:].unflatten(2, GRID)
        found = only(attention_maps(backbone, IMAGES, n)).first
        torch.testing.assert_close(found, expected)
        assert found.sum((-2, -1)).max() < 0.95  # class token and prompts have their part
        stream = layer(stream)


@torch.no_grad()
def test_prompts_in_models_of_timm():
    toast, _, sizes = KINDS['timm']
    backbone = toast(**sizes, feedback_from=None, tuning=dict(type='toast_mm.VPT', num_prompts=7))
    scatter(backbone).eval()
    found = only(attention_maps(backbone, IMAGES[..., :32], 0)).first
    stream, _ = backbone.embed(IMAGES[..., :32])
    block = backbone.model.blocks[0]
    stream = torch.cat((stream[:, :5], block.prompts.expand(3, -1, -1), stream[:, 5:]), dim=1)
    query, key, _ = block.attn.qkv(block.norm1(stream)).chunk(3, -1)
    query, key = (part.unflatten(-1, (2, 12)).transpose(1, 2) for part in (query, key))
    expected = (query @ key.mT * 12**-0.5).softmax(-1)[:, :, 0, 12:].unflatten(2, (4, 4))
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_without_a_class_token_it_is_the_mean_over_the_patches():
    backbone = build(with_cls_token=False, out_type='featmap')
    maps = attention_maps(backbone, IMAGES, [0, -1])
    expected = all_weights(backbone.layers[0], backbone.embed(IMAGES)[0]).mean(2)
    torch.testing.assert_close(maps[0].first, expected.unflatten(2, GRID))
    torch.testing.assert_close(maps[3].second.sum((2, 3)), torch.ones(3, 2))  # no other tokens


@torch.no_grad()
def test_mask_is_the_cosine_with_the_task_embedding():
    backbone = build()
    tokens = backbone(IMAGES)[0]  # the class token of every image
    backbone.topdown.selection.task_embedding.sub_(tokens.mean(0) / 2)  # some below 0, some above
    maps = attention_maps(backbone, IMAGES, [0, -1])
    plain = VisionTransformer(**SETTINGS, out_type='raw')
    plain.load_state_dict(backbone.state_dict(), strict=False)
    plain.eval()
    tokens = plain(IMAGES)[0][:, 1:]
    embedding = backbone.topdown.selection.task_embedding
    cosine = (tokens @ embedding) / (tokens.norm(dim=-1) * embedding.norm())
    for found in maps.values():
        torch.testing.assert_close(found.mask, cosine.clamp(min=0).unflatten(1, GRID))
    assert 0 < (maps[0].mask == 0).float().mean() < 1


def test_without_signal_both_passes_look_at_the_same():
    backbone = build()
    for layer in backbone.topdown.feedback.layers.values():
        torch.nn.init.zeros_(layer.emit.weight)
    for layer in backbone.layers:
        layer.attn.value_bias_twice = False
    maps = only(attention_maps(backbone, IMAGES))
    torch.testing.assert_close(maps.first, maps.second)


def test_a_folded_backbone_looks_at_the_same():
    backbone = build(lite=dict(rank=2, alpha=1.0))
    before = attention_maps(backbone, IMAGES, range(4))
    after = attention_maps(backbone.fold(), IMAGES, range(4))
    for block, maps in before.items():
        torch.testing.assert_close(after[block].second, maps.second)
        torch.testing.assert_close(after[block].mask, maps.mask)


def test_nothing_stays_behind():
    backbone = build()
    before = backbone(IMAGES)[0]
    assert not only(attention_maps(backbone, IMAGES)).second.requires_grad
    assert not any(module._forward_pre_hooks for module in backbone.modules())
    torch.testing.assert_close(backbone(IMAGES)[0], before, rtol=0, atol=0)


def test_training_goes_on_as_before():
    """Nothing is dropped at random in the maps, no number is drawn, and modes are restored."""
    backbone = build(drop_path_rate=0.5, frozen=False).train()
    modes = [module.training for module in backbone.modules()]
    expected = only(attention_maps(build(drop_path_rate=0.5), IMAGES)).second
    state = torch.get_rng_state()
    torch.testing.assert_close(only(attention_maps(backbone, IMAGES)).second, expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in backbone.modules()] == modes and any(modes)


def test_only_blocks_that_are_asked_for_leave_the_fused_kernel(monkeypatch):
    backbone, calls = build(), []
    kernel = F.scaled_dot_product_attention
    for n, layer in enumerate(backbone.layers):
        called = lambda *args, n=n, **kwargs: calls.append(n) or kernel(*args, **kwargs)  # noqa: E731
        monkeypatch.setattr(layer.attn, 'scaled_dot_product_attention', called)
    attention_maps(backbone, IMAGES, 1)
    both_passes = [0, 1, 2, 3] * 2
    assert calls == [*both_passes, *[1] * 4]  # block 1 of both passes, shown and run


def test_maps_of_a_given_first_pass():
    backbone = build()
    with (
        backbone.using(backbone.run_first_pass(IMAGES)),
        pytest.raises(ValueError, match=r'handed over .* outside of backbone\.using'),
    ):
        attention_maps(backbone, IMAGES)


@pytest.mark.parametrize(
    ('backbone', 'sentence'),
    [
        (VisionTransformer(**SETTINGS), r'a backbone of toast_mm.*this is a VisionTransformer'),
        (TOASTMixer(image=32), r'TOASTMixer does not say its attention .* no maps \(B, C, H, W\)'),
    ],
)
def test_backbones_without_such_maps(backbone, sentence):
    with pytest.raises(ValueError, match=sentence):
        attention_maps(backbone, IMAGES[..., :32])


def test_a_wrapped_backbone():
    wrapped = DistributedDataParallel.__new__(DistributedDataParallel)
    with pytest.raises(ValueError, match='without a wrapper; this is a DistributedDataParallel'):
        attention_maps(wrapped, IMAGES)


@pytest.mark.parametrize(
    ('blocks', 'settings', 'sentence'),
    [
        ([4], {}, r'blocks=\[4\] must name blocks of this TOASTViT: 0\.\.3, or -4\.\.-1'),
        (-5, {}, 'blocks=-5 must name blocks'),
        ([], {}, r'blocks=\[\] must name blocks'),
        ('last', {}, "blocks='last' must name blocks"),
        (1.5, {}, 'blocks=1.5 must name blocks of this TOASTViT: 0'),
        ([0, 1.5], {}, r'blocks=\[0, 1.5\] must name blocks'),
        (3, dict(feedback_from=2, out_indices=2), 'block 3 does not run.* end at block 2'),
        (-1, dict(feedback_from=None, out_indices=0), 'block 3 does not run.* end at block 0'),
    ],
)
def test_blocks_that_do_not_run(blocks, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        attention_maps(build(**settings), IMAGES, blocks)
