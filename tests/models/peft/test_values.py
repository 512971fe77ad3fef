"""What each method computes, written from its equation."""

import pytest
import torch
import torch.nn.functional as F
from small_backbones import VIT, plain, tuned
from torch import nn

from toast_mm.models import TOASTViT
from toast_mm.models.peft.lora import LoRAConv2d


def attend(x, weight, bias, layer):
    """mmpretrain's attention with the given projection to queries, keys and values."""
    qkv = F.linear(x, weight, bias).unflatten(-1, (3, 3, 8)).permute(2, 0, 3, 1, 4)
    query, key, value = qkv
    scores = (query @ key.transpose(-1, -2) / 8**0.5).softmax(-1)
    return layer.attn.proj((scores @ value).transpose(1, 2).flatten(2))


def blocks(backbone, image, attention=None, network=None, prompts=None):
    """A ViT in steps: with another attention, feed-forward network, or prompts."""
    x, _ = backbone.patch_embed(image)
    x = torch.cat([backbone.cls_token.expand(len(x), -1, -1), x], dim=1) + backbone.pos_embed
    streams = []
    for number, layer in enumerate(backbone.layers):
        x = x if prompts is None else prompts(x, number)
        h = layer.ln1(x)
        x = x + (attention(h, layer) if attention else layer.attn(h))
        x = x + (network(layer.ln2(x), layer) if network else layer.ffn.layers(layer.ln2(x)))
        streams.append(x)
    return streams


def test_lora(image):
    backbone = tuned('vit', dict(type='toast_mm.LoRA', rank=2, alpha=3.0), out_type='raw')

    def attention(h, layer):
        qkv = layer.attn.qkv
        weight = qkv.weight + 3 / 2 * qkv.lora_up.weight @ qkv.lora_down.weight
        return attend(h, weight, qkv.bias, layer)

    expected = backbone.ln1(blocks(backbone, image, attention)[-1])
    torch.testing.assert_close(backbone(image)[0], expected)


@pytest.mark.parametrize('stride', [1, 2])
def test_lora_of_a_convolution(stride):
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(3, 5, 1, stride).double()
    layer = LoRAConv2d.from_conv(conv, rank=2, alpha=3.0)
    image = torch.randn(2, 3, 6, 4, generator=generator, dtype=torch.double)
    assert torch.equal(layer(image), conv(image)) and layer.weight is conv.weight
    nn.init.normal_(layer.lora_up.weight, generator=generator)
    up, down = (part.weight[..., 0, 0] for part in (layer.lora_up, layer.lora_down))
    matrix = conv.weight[..., 0, 0] + 3 / 2 * up @ down
    expected = torch.einsum('oi,bihw->bohw', matrix, image[..., ::stride, ::stride])
    expected = expected + conv.bias[:, None, None]
    torch.testing.assert_close(layer(image), expected)
    merged = layer.merge()
    assert type(merged) is nn.Conv2d
    torch.testing.assert_close(merged(image), expected)


def test_lora_on_layers_of_choice():
    by_suffix = tuned('vit', dict(type='toast_mm.LoRA', targets=('attn.proj', 'layers.1')))
    names = {n.rsplit('.', 2)[0] for n, p in by_suffix.named_parameters() if p.requires_grad}
    assert names == {f'layers.{b}.{n}' for b in range(3) for n in ('attn.proj', 'ffn.layers.1')}
    by_expression = tuned('vit', dict(type='toast_mm.LoRA', targets=r'layers\.[02]\.attn\.qkv'))
    names = {n.rsplit('.', 2)[0] for n, p in by_expression.named_parameters() if p.requires_grad}
    assert names == {'layers.0.attn.qkv', 'layers.2.attn.qkv'}


def test_dropout_of_lora_acts_in_training_and_beside_feedback_in_the_second_pass(image):
    tuning = dict(type='toast_mm.LoRA', drop_rate=0.5)
    backbone = tuned('vit', tuning, out_type='raw')
    assert torch.equal(backbone(image)[0], backbone(image)[0])
    backbone.train()
    assert not torch.allclose(backbone(image)[0], backbone(image)[0])

    steered = tuned('vit', tuning, out_type='raw', feedback_from='last').train()
    with steered.recording() as first:
        one = steered(image)[0]
    with steered.recording() as second:
        other = steered(image)[0]
    assert torch.equal(first.z, second.z)
    assert not torch.allclose(one, other)


def test_vpt_deep(image):
    """New prompts in every block, after the class token; no output contains them."""
    backbone = tuned('vit', dict(type='toast_mm.VPT', num_prompts=4), out_type='raw')

    def prompts(x, number):
        own = backbone.layers[number].prompts.expand(2, -1, -1)
        return torch.cat([x[:, :1], own, x[:, 1 if number == 0 else 5 :]], dim=1)

    untuned = plain('vit', out_type='raw')
    stream = untuned.ln1(blocks(untuned, image, prompts=prompts)[-1])
    expected = torch.cat([stream[:, :1], stream[:, 5:]], dim=1)
    torch.testing.assert_close(backbone(image)[0], expected)


def test_vpt_shallow(image):
    tuning = dict(type='toast_mm.VPT', num_prompts=4, deep=False)
    backbone = tuned('vit', tuning, out_type='featmap', out_indices=(0, 2))

    def prompts(x, number):
        own = backbone.layers[0].prompts.expand(2, -1, -1)
        return torch.cat([x[:, :1], own, x[:, 1:]], dim=1) if number == 0 else x

    untuned = plain('vit')
    first, _, last = blocks(untuned, image, prompts=prompts)
    for output, stream in zip(backbone(image), (first, untuned.ln1(last)), strict=True):
        torch.testing.assert_close(output, stream[:, 5:].mT.reshape(2, 24, 4, 4))


@pytest.mark.parametrize('size', [(32, 32), (40, 24)])
def test_prompts_and_other_image_sizes(size):
    tuning = dict(type='toast_mm.VPT', num_prompts=4)
    output = tuned('vit', tuning, out_type='featmap')(torch.rand(1, 3, *size).double())[0]
    assert output.shape == (1, 24, size[0] // 8, size[1] // 8)


def test_prompts_start_as_patches_do():
    torch.manual_seed(0)
    backbone = TOASTViT(**VIT, feedback_from=None, tuning=dict(type='toast_mm.VPT'))
    backbone.init_weights()
    bound = (6 / (3 * 8 * 8 + 24)) ** 0.5
    for layer in backbone.layers:
        assert layer.prompts.shape == (100, 24)
        assert 0.98 * bound < layer.prompts.abs().max() <= bound
        assert layer.prompts.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_adaptformer(image):
    tuning = dict(type='toast_mm.AdaptFormer', bottleneck=2, scale=0.4)
    backbone = tuned('vit', tuning, out_type='raw')

    def network(h, layer):
        down, _, _, up = layer.ffn.adapter
        beside = F.linear(F.relu(F.linear(h, down.weight, down.bias)), up.weight, up.bias)
        return layer.ffn.layers(h) + 0.4 * beside

    expected = backbone.ln1(blocks(backbone, image, network=network)[-1])
    other = tuned('vit', dict(tuning, scale=1.0), out_type='raw')
    other.load_state_dict(backbone.state_dict())  # the scale comes with the weights
    torch.testing.assert_close(other(image)[0], expected)
    torch.testing.assert_close(backbone(image)[0], expected)


@pytest.mark.parametrize('kind', ['timm', 'eva'])
def test_adaptformer_on_timm(kind, image):
    """The branch skips the scale of the layer, which is far from 1 here, and its drop path."""
    backbone = tuned(kind, dict(type='toast_mm.AdaptFormer', bottleneck=2, scale=0.4))
    model = plain(kind).model
    x = model._pos_embed(model.patch_embed(image))
    x, rope = x if isinstance(x, tuple) else (x, None)
    for block, own in zip(model.blocks, backbone.model.blocks, strict=True):
        known = {} if rope is None else {'rope': rope}
        x = (
            x + block.ls1(block.attn(block.norm1(x)))
            if rope is None
            else (x + block.attn(block.norm1(x), **known))
        )
        h = block.norm2(x)
        down, _, _, up = own.mlp.adapter
        beside = F.linear(F.relu(F.linear(h, down.weight, down.bias)), up.weight, up.bias)
        x = x + (block.mlp(h) if rope is not None else block.ls2(block.mlp(h))) + 0.4 * beside
    torch.testing.assert_close(backbone(image)[0], model.norm(x)[:, 0])


@pytest.mark.parametrize(
    ('kind', 'arguments'),
    [
        ('stages', {}),
        ('stages', dict(conv_mlp=True)),
        ('stages', dict(model_name='convnextv2_tiny')),
        ('swin', {}),
        ('swin', dict(model_name='swinv2_tiny_window8_256')),
    ],
)
def test_adaptformer_on_stages(kind, arguments, image):
    """Hooks on timm's model add the branch to the output of the block, without its scale."""
    backbone = tuned(kind, dict(type='toast_mm.AdaptFormer', bottleneck=2, scale=0.4), **arguments)
    untuned = tuned(kind, None, **arguments)
    hooked = 0
    for name, mlp in untuned.named_modules():
        if not name.endswith('.mlp'):
            continue
        down, _, _, up = backbone.get_submodule(name).adapter
        entering = []
        mlp.register_forward_pre_hook(lambda mlp, args, kept=entering: kept.append(args[0]))

        def behind(block, args, output, down=down, up=up, mlp=mlp, kept=entering):
            (h,) = kept
            h = h.movedim(1, -1) if isinstance(mlp.fc1, torch.nn.Conv2d) else h
            beside = 0.4 * F.linear(F.relu(F.linear(h, down.weight, down.bias)), up.weight, up.bias)
            if kind == 'stages':
                return output + beside.movedim(-1, 1)
            return output + beside.reshape(output.shape)

        untuned.get_submodule(name.removesuffix('.mlp')).register_forward_hook(behind)
        hooked += 1
    assert hooked == {'stages': 5, 'swin': 3}[kind]
    torch.testing.assert_close(backbone(image)[0], untuned(image)[0])


@pytest.mark.parametrize('kind', ['vit', 'convnext'])
def test_ssf(kind, image):
    """Hooks on mmpretrain's backbone scale and shift the output of every operation."""
    backbone = tuned(kind, dict(type='toast_mm.SSF'))
    untuned = plain(kind)
    state = backbone.state_dict()
    hooked = 0
    for name, module in untuned.named_modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d, torch.nn.LayerNorm)):
            scale, shift = state[f'{name}.ssf_scale'], state[f'{name}.ssf_shift']

            def behind(module, arguments, kwargs, output, scale=scale, shift=shift):
                last = isinstance(module, torch.nn.Linear) or output.ndim == 3
                if last or kwargs.get('data_format') == 'channel_last':
                    return output * scale + shift
                return output * scale[:, None, None] + shift[:, None, None]

            module.register_forward_hook(behind, with_kwargs=True)
            hooked += 1
    assert 2 * hooked == sum('.ssf_' in name for name in state)
    torch.testing.assert_close(backbone(image)[0], untuned(image)[0])


def test_ssf_starts_near_the_identity():
    torch.manual_seed(0)
    backbone = TOASTViT(**VIT, feedback_from=None, tuning=dict(type='toast_mm.SSF'))
    backbone.init_weights()
    state = backbone.state_dict()
    scales = torch.cat([state[name] for name in state if name.endswith('ssf_scale')])
    shifts = torch.cat([state[name] for name in state if name.endswith('ssf_shift')])
    for values, mean in ((scales, 1), (shifts, 0)):
        assert values.mean().item() == pytest.approx(mean, abs=0.005)
        assert values.std().item() == pytest.approx(0.02, rel=0.1)


def test_ssf_without_a_bias_cannot_be_merged(image):
    backbone = tuned('vit', dict(type='toast_mm.SSF'), qkv_bias=False)
    expected = backbone(image)[0]
    with pytest.raises(ValueError, match='cannot be merged: it has no bias'):
        backbone.merge()
    assert torch.equal(backbone(image)[0], expected)  # nothing half merged
