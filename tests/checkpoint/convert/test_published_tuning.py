"""Published TOAST-Lite, LoRA and VPT, against the published formulation written out.

The trainer of the published code saves in evaluation mode, where updates are merged into the
weights and also saved on their own.
"""

import pytest
import torch
import torch.nn.functional as F
from published_checkpoints import DEPTH, DIM, HEADS, published_vit, random_state

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.convert import convert_toast
from toast_mm.models import TOASTViT

RANK, PROMPTS = 4, 3
UNTOLD = 'add --merged or --unmerged'


def plain_vit():
    topdown = ('decoders.', 'prompt', 'top_down')
    return {n: t for n, t in published_vit().items() if not n.startswith(topdown)}


def published_lora(layers=('attn.qkv',)):
    sizes = {'attn.qkv': (DIM, 3 * DIM), 'mlp.fc2': (4 * DIM, DIM)}
    shapes = {}
    for n in range(DEPTH):
        for layer in layers:
            inputs, outputs = sizes[layer]
            shapes[f'blocks.{n}.{layer}.lora_A'] = (RANK, inputs)
            shapes[f'blocks.{n}.{layer}.lora_B'] = (outputs, RANK)
    return plain_vit() | random_state(shapes)


def published_vpt(deep=True, width=DIM):
    shapes = {'prompt_embeddings': (1, PROMPTS, width)}
    if deep:
        shapes['deep_prompt_embeddings'] = (DEPTH - 1, PROMPTS, width)
    if width != DIM:
        shapes |= {'prompt_proj.weight': (DIM, width), 'prompt_proj.bias': (DIM,)}
    return plain_vit() | random_state(shapes)


def merge(weights):
    """Merge the updates, as evaluation mode does."""
    merged = dict(weights)
    for name in weights:
        if name.endswith('.lora_A'):
            layer = name.removesuffix('.lora_A')
            update = 0.25 * weights[f'{layer}.lora_B'] @ weights[name]  # alpha / r
            merged[f'{layer}.weight'] = weights[f'{layer}.weight'] + update
    return merged


def without_updates(weights):
    return {name: tensor for name, tensor in weights.items() if '.lora_' not in name}


def norm(x, p, name):
    return F.layer_norm(x, (DIM,), p[f'{name}.weight'], p[f'{name}.bias'], 1e-6)


def linear(x, p, name):
    return F.linear(x, p[f'{name}.weight'], p.get(f'{name}.bias'))


def run(p, image, prompts=lambda x, n: x, signals=None):
    """Run the published ViT with the weights of evaluation mode; prompts follow the class token."""
    x = F.conv2d(image, p['patch_embed.proj.weight'], p['patch_embed.proj.bias'], stride=8)
    x = torch.cat([p['cls_token'].expand(len(x), -1, -1), x.flatten(2).mT], 1) + p['pos_embed']
    for n in range(DEPTH):
        x, name = prompts(x, n), f'blocks.{n}'
        inputs = norm(x, p, f'{name}.norm1')
        qkv = linear(inputs, p, f'{name}.attn.qkv')
        if signals is not None:
            added = linear(signals[n], p, f'{name}.attn.qkv')[..., -DIM:]
            qkv = torch.cat([qkv[..., :-DIM], qkv[..., -DIM:] + added], -1)
        query, key, value = qkv.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        scores = (query @ key.mT / (DIM // HEADS) ** 0.5).softmax(-1)
        x = x + linear((scores @ value).transpose(1, 2).flatten(2), p, f'{name}.attn.proj')
        hidden = F.gelu(linear(norm(x, p, f'{name}.norm2'), p, f'{name}.mlp.fc1'))
        x = x + linear(hidden, p, f'{name}.mlp.fc2')
    return norm(x, p, 'norm')


def steered(p, image):
    x = run(p, image)
    mask = (F.normalize(x, dim=-1) @ F.normalize(p['prompt'], dim=0)).clamp(0, 1).unsqueeze(-1)
    hidden, signals = (x * mask) @ p['top_down_transform'], {}
    for n in reversed(range(DEPTH)):
        hidden = linear(hidden, p, f'decoders.{n}.linear')
        signals[n] = linear(hidden, p, f'decoders.{n}.linear2')
    return run(p, image, signals=signals)


def features(converted):
    converted.check_whole()
    assert not converted.unused
    settings = dict(converted.settings, out_type='raw')
    settings['arch'] = dict(settings['arch'], num_heads=HEADS)
    backbone = TOASTViT(**settings).eval()
    start = 'backbone.'
    own = {n.removeprefix(start): t for n, t in converted.weights.items() if n.startswith(start)}
    backbone.load_state_dict(own)
    with torch.no_grad():
        return backbone, backbone(make_image())[0]


def make_image():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def assert_close(given, expected):
    assert (given - expected).abs().max() <= 1e-5 * expected.abs().max()


UPDATED = {
    'lite': (lambda: published_vit(lite=True), steered),
    'lora': (published_lora, run),
    'lora of two layers': (lambda: published_lora(('attn.qkv', 'mlp.fc2')), run),
}
updated = pytest.mark.parametrize('kind', UPDATED)


@updated
@pytest.mark.parametrize('told', ['by an argument', 'by the start'])
@pytest.mark.parametrize('merged', [False, True], ids=['training', 'evaluation'])
def test_the_updates_count_once(kind, merged, told):
    make, reference = UPDATED[kind]
    weights = make()
    expected = reference(merge(weights), make_image())
    saved = merge(weights) if merged else weights
    arguments = dict(start=without_updates(weights)) if told == 'by the start' else {}
    converted = convert_toast(saved, **arguments or dict(merged=merged))
    backbone, given = features(converted)
    assert_close(given, expected)
    updates = [name for name in weights if name.endswith('.lora_A')]
    assert sum(n.endswith(('.scale', '.scaling')) for n in backbone.state_dict()) == len(updates)
    names = [name for name, note in converted.resized.items() if note == 'without its update']
    assert len(names) == (len(updates) if merged else 0)


@updated
def test_a_wrong_choice_of_merged_or_unmerged_is_far_off(kind):
    """A guess would change the outputs."""
    make, reference = UPDATED[kind]
    expected = reference(merge(make()), make_image())
    given = features(convert_toast(merge(make()), merged=False))[1]
    assert (given - expected).abs().max() > 0.01 * expected.abs().max()


@updated
def test_without_a_choice_it_is_refused_unless_updates_are_zero(kind):
    make, reference = UPDATED[kind]
    with pytest.raises(CheckpointError, match=UNTOLD):
        convert_toast(make())
    zero = {n: torch.zeros_like(t) if n.endswith('lora_B') else t for n, t in make().items()}
    assert_close(features(convert_toast(zero))[1], reference(zero, make_image()))


def test_a_start_of_this_projects_names_and_one_of_another_model():
    weights = published_vit(lite=True)
    own = convert_toast(without_updates(weights)).weights
    module = {n.removeprefix('backbone.'): t for n, t in own.items() if '.topdown.' in n}
    for start in (own, module):
        assert 'were merged' in convert_toast(merge(weights), start=start).caveat
    other = {name: tensor + 1 for name, tensor in module.items()}
    with pytest.raises(
        CheckpointError, match='the tuning did not start from the file of --pretuned'
    ):
        convert_toast(merge(weights), start=other)
    with pytest.raises(CheckpointError, match=r'has no weight backbone\.topdown'):
        convert_toast(merge(weights), start=plain_vit())


@pytest.mark.parametrize('width', [DIM, 5], ids=['plain', 'projected'])
@pytest.mark.parametrize('deep', [True, False])
def test_vpt(deep, width):
    weights = published_vpt(deep, width)

    def prompts(x, n):
        own = weights['prompt_embeddings'][0]
        if n:
            if not deep:
                return x
            own = weights['deep_prompt_embeddings'][n - 1]
        if width != DIM:
            own = linear(own, weights, 'prompt_proj')
        behind = x[:, 1 + PROMPTS :] if n else x[:, 1:]
        return torch.cat([x[:, :1], own.expand(len(x), -1, -1), behind], 1)

    converted = convert_toast({f'module.enc.{name}': t for name, t in weights.items()})
    assert converted.kind == 'VPT on ViT'
    assert converted.settings['feedback_from'] is None
    assert converted.settings['tuning'] == dict(type='toast_mm.VPT', num_prompts=PROMPTS, deep=deep)
    expected = run(weights, make_image(), prompts)
    assert_close(
        features(converted)[1], torch.cat([expected[:, :1], expected[:, 1 + PROMPTS :]], 1)
    )


def test_lora_says_what_the_backbone_needs():
    converted = convert_toast(published_lora(), merged=True)
    assert converted.kind == 'LoRA on ViT'
    assert converted.settings['tuning'] == dict(type='toast_mm.LoRA', rank=RANK, alpha=1.0)
    both = convert_toast(published_lora(('attn.qkv', 'mlp.fc2')), merged=True)
    assert both.settings['tuning']['targets'] == ['attn.qkv', 'ffn.layers.1']
    missing = published_vpt()
    missing['deep_prompt_embeddings'] = missing['deep_prompt_embeddings'][1:]
    with pytest.raises(CheckpointError, match=rf'lacks weights: backbone\.layers\.{DEPTH - 1}'):
        convert_toast(missing).check_whole()
    with pytest.raises(CheckpointError, match=r'nor of LoRA \(lora_A\) or VPT'):
        convert_toast(plain_vit())
