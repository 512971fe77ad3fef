"""Published checkpoints, converted, against the published formulation written out."""

import pytest
import torch
import torch.nn.functional as F
from published_checkpoints import (
    DEPTH,
    DEPTHS,
    DIM,
    HEADS,
    published_convnext,
    published_vit,
)
from rich.console import Console

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.convert import convert_toast
from toast_mm.models import TOASTConvNeXt, TOASTViT

# The published formulation: the projection of all of Q, K and V on the signal, with its bias.


def normed(x, p, name):
    return F.layer_norm(x, x.shape[-1:], p[f'{name}.weight'], p[f'{name}.bias'], 1e-6)


def linear(x, p, name):
    return F.linear(x, p[f'{name}.weight'], p.get(f'{name}.bias'))


def heads_of(qkv):
    return qkv.unflatten(-1, (3, HEADS, DIM // HEADS)).permute(2, 0, 3, 1, 4)


def vit_pass(p, image, signals=None):
    x = F.conv2d(image, p['patch_embed.proj.weight'], p['patch_embed.proj.bias'], stride=8)
    x = torch.cat([p['cls_token'].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
    x = x + p['pos_embed']
    for n in range(DEPTH):
        name = f'blocks.{n}'
        query, key, value = heads_of(linear(normed(x, p, f'{name}.norm1'), p, f'{name}.attn.qkv'))
        if signals is not None:
            value = value + heads_of(linear(signals[n], p, f'{name}.attn.qkv'))[2]
        weights = (query @ key.transpose(-2, -1) / (DIM // HEADS) ** 0.5).softmax(-1)
        x = x + linear((weights @ value).transpose(1, 2).flatten(2), p, f'{name}.attn.proj')
        hidden = F.gelu(linear(normed(x, p, f'{name}.norm2'), p, f'{name}.mlp.fc1'))
        x = x + linear(hidden, p, f'{name}.mlp.fc2')
    return normed(x, p, 'norm')


def decoder_weight(p, name):
    weight = p[f'{name}.weight']
    if f'{name}.lora_A' in p:
        weight = weight + p[f'{name}.lora_B'] @ p[f'{name}.lora_A'] / 4
    return weight


def vit_reference(p, image):
    """Mask, signals and features of the published ViT."""
    x = vit_pass(p, image)
    mask = (F.normalize(x, dim=-1) @ F.normalize(p['prompt'], dim=0)).clamp(0, 1).unsqueeze(-1)
    hidden, signals = (x * mask) @ p['top_down_transform'], {}
    for n in reversed(range(DEPTH)):
        hidden = F.linear(hidden, decoder_weight(p, f'decoders.{n}.linear'))
        signals[n] = F.linear(hidden, decoder_weight(p, f'decoders.{n}.linear2'))
    return mask, signals, vit_pass(p, image, signals)[:, 0]


def map_normed(x, p, name):
    return normed(x.permute(0, 2, 3, 1), p, name).permute(0, 3, 1, 2)


def convnext_pass(p, x, signals=None):
    for stage, depth in enumerate(DEPTHS):
        x = x if signals is None else x + signals[stage]
        name = f'downsample_layers.{stage}'
        if stage == 0:
            x = F.conv2d(x, p[f'{name}.0.weight'], p[f'{name}.0.bias'], stride=4)
            x = map_normed(x, p, f'{name}.1')
        else:
            x = map_normed(x, p, f'{name}.0')
            x = F.conv2d(x, p[f'{name}.1.weight'], p[f'{name}.1.bias'], stride=2)
        for n in range(depth):
            block = f'stages.{stage}.{n}'
            kernel, bias = p[f'{block}.dwconv.weight'], p[f'{block}.dwconv.bias']
            inner = F.conv2d(x, kernel, bias, padding=3, groups=x.shape[1]).permute(0, 2, 3, 1)
            inner = F.gelu(linear(normed(inner, p, f'{block}.norm'), p, f'{block}.pwconv1'))
            inner = linear(inner, p, f'{block}.pwconv2') * p[f'{block}.gamma']
            x = x + inner.permute(0, 3, 1, 2)
    return x


def convnext_reference(p, image):
    """Mask, signals and features of the published ConvNeXt."""
    x = convnext_pass(p, image)
    scored = F.normalize(map_normed(x, p, 'norm'), dim=1)
    mask = torch.einsum('bchw,c->bhw', scored, F.normalize(p['prompt'], dim=0)).clamp(0, 1)
    mask = mask.unsqueeze(-1)
    hidden = (x.permute(0, 2, 3, 1) * mask) @ p['top_down_transform']
    hidden, signals = hidden.permute(0, 3, 1, 2), {}
    for stage in reversed(range(4)):
        weight = p[f'decoders.{stage}.linear.weight']
        hidden = F.conv_transpose2d(hidden, weight, stride=weight.shape[-1])
        signals[stage] = F.conv2d(hidden, p[f'decoders.{stage}.linear2.weight'])
    return mask, signals, normed(convnext_pass(p, image, signals).mean((2, 3)), p, 'norm')


KINDS = {
    'vit': (published_vit, vit_reference, TOASTViT, 32),
    'vit, lite': (lambda: published_vit(lite=True), vit_reference, TOASTViT, 32),
    'convnext': (published_convnext, convnext_reference, TOASTConvNeXt, 64),
}
kinds = pytest.mark.parametrize('kind', KINDS)


def build(converted, cls):
    settings = dict(converted.settings)
    if cls is TOASTViT:
        settings['arch'] = dict(settings['arch'], num_heads=HEADS)
    backbone = cls(**settings).eval()
    prefix = 'backbone.'
    backbone.load_state_dict(
        {n[len(prefix) :]: t for n, t in converted.weights.items() if n.startswith(prefix)}
    )
    return backbone


def close(given, expected, tolerance):
    """Whether two tensors are equal, relative to the largest magnitude."""
    assert expected.abs().max() > 0
    assert (given - expected).abs().max() <= tolerance * expected.abs().max()


@kinds
def test_features_signals_masks_and_gradients(kind):
    make, reference, cls, size = KINDS[kind]
    state = make()
    converted = convert_toast(state, merged=False)
    assert not converted.missing and not converted.unused
    backbone = build(converted, cls)
    image = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with backbone.recording() as record:
        features = backbone(image)[0]
    parameters = {name: tensor.requires_grad_() for name, tensor in state.items()}
    mask, signals, expected = reference(parameters, image)
    close(features, expected, 1e-4)
    close(backbone.topdown.selection.mask(record.z), mask, 1e-4)
    assert mask.max() > 0.05 and mask.std() > 0.02  # it does select
    for block, signal in signals.items():
        close(record.signals[block], signal, 1e-4)

    features.sin().sum().backward()
    expected.sin().sum().backward()
    of = {tuple(sources): name for name, sources in converted.sources.items()}
    compared = 0
    for name, parameter in parameters.items():
        own = backbone.get_parameter(of[(name,)].removeprefix('backbone.'))
        if own.requires_grad:
            close(own.grad, parameter.grad, 5e-4)
            compared += 1
    assert compared == sum(p.requires_grad for p in backbone.parameters()) > 5


@pytest.mark.parametrize('wrapper', ['', 'module.'])
@pytest.mark.parametrize('kind', ['vit', 'convnext'])
def test_classifier(kind, wrapper):
    """``model_state_dict`` of a tuned model: backbone under enc., one linear layer as head."""
    state = KINDS[kind][0]()
    model = {f'enc.{name}': tensor for name, tensor in state.items()}
    model |= {'head.last_layer.weight': torch.rand(5, 8), 'head.last_layer.bias': torch.rand(5)}
    wrapped = {f'{wrapper}{name}': tensor for name, tensor in model.items()}  # by DDP
    bare, tuned = convert_toast(state), convert_toast(wrapped)
    head = 'head.layers.head' if kind == 'vit' else 'head.fc'
    added = {name: tuned.weights[name] for name in tuned.weights.keys() - bare.weights.keys()}
    assert added == {
        f'{head}.weight': model['head.last_layer.weight'],
        f'{head}.bias': model['head.last_layer.bias'],
    }
    assert tuned.kind == bare.kind == {'vit': 'TOAST on ViT', 'convnext': 'TOAST on ConvNeXt'}[kind]


def test_lite_is_recognised():
    converted = convert_toast(published_vit(lite=True), merged=False)
    assert converted.kind == 'TOAST-Lite on ViT'
    assert converted.settings['lite'] == dict(rank=4, alpha=1.0)
    console = Console(width=1000)
    with console.capture() as printed:
        converted.show(console)
    assert 'The low-rank updates were not merged' in printed.get()
    assert not convert_toast(published_vit()).caveat


def test_refuses():
    state = published_vit()
    with pytest.raises(CheckpointError, match='not a published checkpoint of TOAST'):
        convert_toast({name: t for name, t in state.items() if name != 'prompt'})
    del state['decoders.1.linear2.weight']
    converted = convert_toast(state)
    assert converted.missing == ['backbone.topdown.feedback.layers.1.emit.weight']
    with pytest.raises(CheckpointError, match='emit'):
        converted.check_whole()
