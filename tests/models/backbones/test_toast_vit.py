"""TOASTViT against both passes written from the equations, and against its parent."""

import copy
import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from mmpretrain.models import VisionTransformer
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from toast_mm.checkpoint import CheckpointError
from toast_mm.models import TOASTViT

L, C, HEADS, HIDDEN, PATCH = 4, 24, 3, 48, 8
ARCH = dict(embed_dims=C, num_layers=L, num_heads=HEADS, feedforward_channels=HIDDEN)
ROUTES = [('last', 'first'), ('middle', 'first'), ('last', 'middle'), (3, 1)]

# Every switch of the parent that changes what is computed.
VARIANTS = {
    'default': {},
    'no class token': dict(with_cls_token=False),
    'pre-norm': dict(pre_norm=True),
    'layer scale': dict(layer_scale_init_value=0.1),
    'swiglu': dict(layer_cfgs=dict(ffn_type='swiglu_fused'), layer_scale_init_value=0.1),
    'no qkv bias': dict(qkv_bias=False),
    'no final norm': dict(final_norm=False),
    'three layers per ffn': dict(layer_cfgs=dict(num_fcs=3)),
}
variants = pytest.mark.parametrize('variant', VARIANTS.values(), ids=VARIANTS)
frozen_or_not = pytest.mark.parametrize('frozen', [True, False])


def make(cls=TOASTViT, double=True, **kwargs):
    """A backbone with values everywhere, norms and biases included, that make a difference."""
    torch.manual_seed(0)
    backbone = cls(**dict(arch=ARCH, img_size=32, patch_size=PATCH, out_type='raw') | kwargs)
    for name, parameter in backbone.named_parameters():
        scale = parameter.ndim == 1 and name.endswith('.weight')  # of a norm or a residual
        torch.nn.init.normal_(parameter, mean=float(scale), std=0.3)
    return backbone.double() if double else backbone


def image(size=(32, 32), batch=2, dtype=torch.double):
    generator = torch.Generator().manual_seed(7)
    return torch.randn(batch, 3, *size, dtype=torch.double, generator=generator).to(dtype)


# The equations of REFERENCE section 1, on nothing but the named weights.


def norm(x, p, name):
    centered = x - x.mean(-1, keepdim=True)
    variance = centered.square().mean(-1, keepdim=True)
    return centered / (variance + 1e-6).sqrt() * p[f'{name}.weight'] + p[f'{name}.bias']


def linear(x, p, name):
    return x @ p[f'{name}.weight'].T + p.get(f'{name}.bias', 0)


def tokens(p, image):
    """Patches in rows, class token first, position embeddings added."""
    height, width = image.shape[-2:]
    image = F.pad(image, (0, -width % PATCH, 0, -height % PATCH))
    patches = image.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)  # (B, 3, h, w, 8, 8)
    grid = patches.shape[2:4]
    x = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    x = x @ p['patch_embed.projection.weight'].flatten(1).T
    x = x + p.get('patch_embed.projection.bias', 0)
    position, extra = p['pos_embed'], 0
    if 'cls_token' in p:
        x = torch.cat([p['cls_token'].repeat(len(x), 1, 1), x], dim=1)
        extra = 1
    if grid != (4, 4):
        square = position[:, extra:].reshape(1, 4, 4, C).permute(0, 3, 1, 2)
        square = F.interpolate(square.float(), grid, mode='bicubic').to(position.dtype)
        position = torch.cat([position[:, :extra], square.flatten(2).transpose(1, 2)], dim=1)
    x = x + position
    return norm(x, p, 'pre_norm') if 'pre_norm.weight' in p else x


def attention(x, td, p, name, bias_twice):
    query, key, value = (x @ weight.T for weight in p[f'{name}.qkv.weight'].reshape(3, C, C))
    w_v = p[f'{name}.qkv.weight'][2 * C :]
    if td is not None:
        value = value + td @ w_v.T
    if f'{name}.qkv.bias' in p:
        b_q, b_k, b_v = p[f'{name}.qkv.bias'].reshape(3, C)
        query, key, value = query + b_q, key + b_k, value + b_v
        if td is not None and bias_twice:
            value = value + b_v
    heads, d = [], C // HEADS
    for head in range(HEADS):
        part = slice(head * d, (head + 1) * d)
        scores = query[..., part] @ key[..., part].transpose(1, 2) / d**0.5
        heads.append(torch.softmax(scores, dim=-1) @ value[..., part])
    return linear(torch.cat(heads, dim=-1), p, f'{name}.proj') * p.get(f'{name}.gamma1.weight', 1)


def ffn(x, p, name):
    if f'{name}.w12.weight' in p:
        gate, x = linear(x, p, f'{name}.w12').chunk(2, dim=-1)
        return linear(F.silu(gate) * x, p, f'{name}.w3') * p.get(f'{name}.gamma2.weight', 1)
    depth = sum(key.startswith(f'{name}.layers.') and key.endswith('.weight') for key in p)
    for index in range(depth - 1):
        x = F.gelu(linear(x, p, f'{name}.layers.{index}.0'))
    return linear(x, p, f'{name}.layers.{depth - 1}') * p.get(f'{name}.gamma2.weight', 1)


def block(x, td, p, index, bias_twice, keep=(1, 1)):
    name = f'layers.{index}'
    x = x + keep[0] * attention(norm(x, p, f'{name}.ln1'), td, p, f'{name}.attn', bias_twice)
    return x + keep[1] * ffn(norm(x, p, f'{name}.ln2'), p, f'{name}.ffn')


def selected(z, p):
    xi = p['topdown.selection.task_embedding']
    cosine = (z * xi).sum(-1) / (z.square().sum(-1).sqrt() * xi.square().sum().sqrt())
    mask = torch.maximum(cosine, torch.zeros_like(cosine))
    return (mask.unsqueeze(-1) * z) @ p['topdown.selection.channel_transform']


def reference(backbone, image, k, j, bias_twice=True, keep=None):
    """Raw tokens after every block of the second pass, read after k blocks, given to j .. k-1."""
    p = dict(backbone.named_parameters())
    final = (lambda x: norm(x, p, 'ln1')) if 'ln1.weight' in p else (lambda x: x)

    x = tokens(p, image)
    for index in range(k):
        x = block(x, None, p, index, bias_twice)
    hidden, signals = selected(final(x) if k == L else x, p), {}
    for index in range(k - 1, j - 1, -1):
        hidden = hidden @ p[f'topdown.feedback.layers.{index}.descend.weight'].T
        signals[index] = hidden @ p[f'topdown.feedback.layers.{index}.emit.weight'].T

    x, outputs = tokens(p, image), []
    for index in range(L):
        x = block(x, signals.get(index), p, index, bias_twice, keep[index] if keep else (1, 1))
        outputs.append(final(x) if index == L - 1 else x)
    return outputs


def loss(outputs):
    """Unlike a sum, this sees a difference in any element of a normed token."""
    return sum((output * (2 + index)).sin().sum() for index, output in enumerate(outputs))


def trained(backbone):
    return {name: value for name, value in backbone.named_parameters() if value.requires_grad}


def gradients(outputs, backbone):
    parameters = trained(backbone)
    return dict(
        zip(parameters, torch.autograd.grad(loss(outputs), parameters.values()), strict=True)
    )


def assert_same(backbone, outputs, expected):
    outputs = list(outputs)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(gradients(outputs, backbone), gradients(expected, backbone))


@pytest.mark.parametrize('bias_twice', [True, False])
@pytest.mark.parametrize(('source', 'target'), ROUTES)
def test_both_passes(source, target, bias_twice):
    backbone = make(
        feedback_from=source,
        feedback_to=target,
        value_bias_twice=bias_twice,
        out_indices=range(L),
    )
    route = backbone.route
    numbers = {'first': 0, 'middle': 2, 'last': 4}
    k, j = numbers.get(source, source), numbers.get(target, target)
    assert (route.feedback_from, route.feedback_to) == (k, j)
    assert len(trained(backbone)) == 2 + 2 * (k - j)
    assert_same(backbone, backbone(image()), reference(backbone, image(), k, j, bias_twice))


@variants
def test_both_passes_of_every_variant(variant):
    backbone = make(**variant)
    assert_same(backbone, backbone(image()), reference(backbone, image(), L, 0)[-1:])


@pytest.mark.parametrize(('source', 'target'), ROUTES)
def test_unfrozen_gradients_flow_through_both_passes(source, target):
    backbone = make(feedback_from=source, feedback_to=target, frozen=False)
    assert trained(backbone).keys() == dict(backbone.named_parameters()).keys()
    k, j = backbone.route.feedback_from, backbone.route.feedback_to
    assert_same(backbone, backbone(image()), reference(backbone, image(), k, j)[-1:])


# Larger, smaller, oblong, not a multiple of the patch.
@pytest.mark.parametrize('size', [(48, 64), (16, 24), (40, 29), (33, 8)])
@pytest.mark.parametrize('with_cls_token', [True, False])
def test_any_input_size(size, with_cls_token):
    backbone = make(with_cls_token=with_cls_token)
    outputs = backbone(image(size))
    assert_same(backbone, outputs, reference(backbone, image(size), L, 0)[-1:])
    maps = make(with_cls_token=with_cls_token, out_type='featmap')(image(size))[0]
    grid = (-(-size[0] // PATCH), -(-size[1] // PATCH))
    assert maps.shape == (2, C, *grid)
    patches = outputs[0][:, int(with_cls_token) :]
    torch.testing.assert_close(maps, patches.transpose(1, 2).reshape(2, C, *grid))


@pytest.mark.parametrize(
    ('out_indices', 'blocks'),
    [(-1, [3]), ([0], [0]), ([1, -1], [1, 3]), ((-3, 2), [1, 2]), ([3, 0, 2, -1], [0, 2, 3])],
)
@pytest.mark.parametrize('out_type', ['raw', 'cls_token', 'featmap', 'avg_featmap'])
@pytest.mark.parametrize(('source', 'target'), [('last', 'first'), (2, 0), (3, 0)])
def test_outputs(out_type, out_indices, blocks, source, target):
    backbone = make(
        out_type=out_type, out_indices=out_indices, feedback_from=source, feedback_to=target
    )
    p = dict(backbone.named_parameters())
    take = {
        'raw': lambda x: x,
        'cls_token': lambda x: x[:, 0],
        'featmap': lambda x: x[:, 1:].reshape(2, 4, 4, C).permute(0, 3, 1, 2),
        'avg_featmap': lambda x: norm(x[:, 1:].mean(1), p, 'ln2'),
    }[out_type]
    streams = reference(backbone, image(), backbone.route.feedback_from, 0)
    outputs = backbone(image())
    assert isinstance(outputs, tuple)
    assert_same(backbone, outputs, [take(streams[index]) for index in blocks])


def test_selection_and_feedback_matter():
    """The comparisons above are meaningful: there are masked and unmasked tokens, large signals."""
    backbone = make()
    seen = {}
    selection, feedback = backbone.topdown.selection, backbone.topdown.feedback
    selection.register_forward_hook(lambda module, z, _: seen.update(mask=module.mask(z[0])))
    feedback.register_forward_hook(lambda *args: seen.update(signals=args[-1]))
    steered = backbone(image())[0]
    assert (seen['mask'] == 0).any() and (seen['mask'] > 0.1).any()
    assert all(signal.std() > 0.1 for signal in seen['signals'].values())
    backbone.topdown = None
    assert (steered - backbone(image())[0]).abs().max() > 0.1


def test_ablations_choose_what_trains():
    every = set(trained(make()))
    embedding, transform = 'topdown.selection.task_embedding', 'topdown.selection.channel_transform'
    assert len(every) == 2 + 2 * L
    assert {name.split('.')[0] for name in every} == {'topdown'}
    assert set(trained(make(token_selection=False))) == every - {embedding}
    assert set(trained(make(channel_selection=False))) == {embedding}
    assert set(trained(make(tune_channel_transform=False))) == every - {transform}
    assert embedding in every and transform in every


def test_without_token_selection_every_token_passes():
    backbone = make(token_selection=False)
    p = dict(backbone.named_parameters())
    x = tokens(p, image())
    for index in range(L):
        x = block(x, None, p, index, True)
    hidden = norm(x, p, 'ln1') @ p['topdown.selection.channel_transform']
    x = tokens(p, image())
    signals = {}
    for index in reversed(range(L)):
        hidden = linear(hidden, p, f'topdown.feedback.layers.{index}.descend')
        signals[index] = linear(hidden, p, f'topdown.feedback.layers.{index}.emit')
    for index in range(L):
        x = block(x, signals[index], p, index, True)
    assert_same(backbone, backbone(image()), [norm(x, p, 'ln1')])


def test_without_channel_selection_the_rest_stays_as_loaded():
    state = {name: value * 1.5 for name, value in make().state_dict().items()}
    full, backbone = make(), make(channel_selection=False)
    full.load_state_dict(state)
    backbone.load_state_dict(state)
    outputs, expected = backbone(image()), full(image())
    assert all(map(torch.equal, outputs, expected))
    name = 'topdown.selection.task_embedding'
    torch.testing.assert_close(
        gradients(outputs, backbone), {name: gradients(expected, full)[name]}
    )


# The parent


@pytest.mark.parametrize('removed', ['never built', 'afterwards'])
@pytest.mark.parametrize('out_type', ['raw', 'cls_token', 'featmap', 'avg_featmap'])
@variants
def test_without_topdown_it_is_its_parent_bit_for_bit(variant, out_type, removed):
    if variant.get('with_cls_token') is False and out_type == 'cls_token':
        with pytest.raises(ValueError, match='with_cls_token'):
            make(out_type=out_type, **variant)
        return
    kwargs = dict(variant, out_type=out_type, double=False)
    parent = make(VisionTransformer, out_indices=[1, L - 1], **kwargs)
    route = {} if removed == 'afterwards' else dict(feedback_from=None)
    backbone = make(out_indices=[1, -1], **route, **kwargs)
    backbone.topdown = None
    assert list(backbone.state_dict()) == list(parent.state_dict())
    backbone.load_state_dict(parent.state_dict())
    for size in ((32, 32), (40, 29)):
        x = image(size, dtype=torch.float)
        outputs, expected = backbone(x), parent(x)
        assert len(outputs) == len(expected) == 2
        assert all(map(torch.equal, outputs, expected))


def test_without_topdown_an_unfrozen_backbone_trains_as_its_parent():
    kwargs = dict(drop_path_rate=0.5, drop_rate=0.2, out_type='cls_token')
    parent = make(VisionTransformer, **kwargs)
    backbone = make(feedback_from=None, frozen=False, **kwargs)
    backbone.load_state_dict(parent.state_dict())
    results = []
    for model in (parent, backbone):
        model.train()
        torch.manual_seed(3)
        outputs = model(image())
        results.append((outputs, gradients(outputs, model)))
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert len(results[0][1]) == len(list(parent.parameters()))


@variants
def test_loads_a_plain_checkpoint_key_for_key(variant, tmp_path):
    parent = make(VisionTransformer, double=False, **variant)
    state = parent.state_dict()
    torch.save({'state_dict': {f'backbone.{k}': v for k, v in state.items()}}, tmp_path / 'vit.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'vit.pth'), prefix='backbone.')
    backbone = make(double=False, init_cfg=init_cfg, **variant)
    added = backbone.state_dict().keys() - state.keys()
    assert backbone.state_dict().keys() - added == state.keys()
    assert {name.split('.')[0] for name in added} == {'topdown'}
    topdown = copy.deepcopy(backbone.topdown.state_dict())
    backbone.init_weights()
    for name, value in state.items():
        assert torch.equal(backbone.state_dict()[name], value), name
    for name, value in backbone.topdown.state_dict().items():
        assert torch.equal(topdown[name], value), name


def test_loads_position_embeddings_of_another_size(tmp_path):
    parent = make(VisionTransformer, double=False)
    torch.save(parent.state_dict(), tmp_path / 'vit.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'vit.pth'))
    backbone = make(double=False, img_size=48, init_cfg=init_cfg)
    backbone.init_weights()
    square = parent.pos_embed.detach()[:, 1:].reshape(1, 4, 4, C).permute(0, 3, 1, 2)
    square = F.interpolate(square, (6, 6), mode='bicubic').flatten(2).transpose(1, 2)
    expected = torch.cat([parent.pos_embed.detach()[:, :1], square], dim=1)
    torch.testing.assert_close(backbone.pos_embed.detach(), expected)


def test_a_checkpoint_without_the_output_norm_is_complete(tmp_path):
    """``ln2`` of avg_featmap belongs to the output: new in most cases, so it trains."""
    torch.save(make(VisionTransformer, double=False).state_dict(), tmp_path / 'vit.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'vit.pth'))
    backbone = make(double=False, out_type='avg_featmap', init_cfg=init_cfg)
    backbone.init_weights()
    assert {'ln2.weight', 'ln2.bias'} <= trained(backbone).keys()


@pytest.mark.parametrize(
    ('change', 'complaint'),
    [
        (dict(arch={**ARCH, 'num_layers': L + 1}), 'missing: layers.4.ln1.weight'),
        (dict(arch={**ARCH, 'num_layers': L - 1}), 'more than this backbone has: layers.3.ln1'),
        (dict(arch={**ARCH, 'embed_dims': 48}), 'cls_token (1, 1, 24) instead of (1, 1, 48)'),
        (dict(qkv_bias=False), 'more than this backbone has: layers.0.attn.qkv.bias'),
        (dict(layer_scale_init_value=0.1), 'missing: layers.0.attn.gamma1.weight'),
        (dict(pre_norm=True), 'missing: pre_norm.weight, pre_norm.bias'),
    ],
)
def test_refuses_a_checkpoint_of_another_backbone(change, complaint, tmp_path):
    torch.save(make(VisionTransformer, double=False).state_dict(), tmp_path / 'vit.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'vit.pth'))
    with pytest.raises(CheckpointError) as caught:
        make(double=False, init_cfg=init_cfg, **change).init_weights()
    assert complaint in str(caught.value)
    assert 'vit.pth' in str(caught.value)


# What is run, and in which mode


def record(backbone):
    """Log of every block call: number, steered or not, modes of the layer and of its drop path."""
    log = []

    def before(index, layer, args):
        steered = len(args) > 1 and args[1] is not None
        modes = {
            module.training
            for module in layer.modules()
            if module is not layer.attn.out_drop and module is not layer.ffn.dropout_layer
        }
        drops = {layer.attn.out_drop.training, layer.ffn.dropout_layer.training}
        log.append((index, steered, modes, drops))

    for index, layer in enumerate(backbone.layers):
        layer.register_forward_pre_hook(partial(before, index))
    backbone.patch_embed.register_forward_pre_hook(lambda *_: log.append('embed'))
    backbone.topdown.register_forward_pre_hook(lambda *_: log.append('topdown'))
    return log


@pytest.mark.parametrize(
    ('source', 'target', 'out_indices', 'first', 'second', 'steered'),
    [
        ('last', 'first', -1, [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]),
        ('middle', 'first', -1, [0, 1], [0, 1, 2, 3], [0, 1]),
        ('last', 'middle', -1, [0, 1, 2, 3], [2, 3], [2, 3]),
        (3, 1, [0, 1, 2, 3], [0, 1, 2], [1, 2, 3], [1, 2]),
        ('last', 'first', [0, 1], [0, 1, 2, 3], [0, 1], [0, 1]),
        (2, 1, [1], [0, 1], [1], [1]),
    ],
)
@frozen_or_not
def test_runs_exactly_the_blocks_it_needs(
    source, target, out_indices, first, second, steered, frozen
):
    backbone = make(
        feedback_from=source,
        feedback_to=target,
        out_indices=out_indices,
        frozen=frozen,
        drop_path_rate=0.2,
    ).train()
    log = record(backbone)
    backbone(image())
    assert log == [
        'embed',
        *((index, False, {False}, {False}) for index in first),
        'topdown',
        *((index, index in steered, {not frozen}, {True}) for index in second),
    ]
    log.clear()
    backbone.eval()(image())
    assert [entry[2:] for entry in log if entry[:1] != 'e' and entry[:1] != 't'] == [
        ({False}, {False})
    ] * len(first + second)


@frozen_or_not
def test_modes_survive_train_and_forward(frozen):
    backbone = make(frozen=frozen, drop_path_rate=0.2, drop_rate=0.1)
    for mode in (True, False, True):
        assert backbone.train(mode) is backbone
        for _ in range(2):
            for name, module in backbone.named_modules():
                tuned = not frozen or name.split('.')[0] in ('', 'topdown')
                assert module.training is (mode and tuned), name
            backbone(image())


@pytest.mark.parametrize('call', [1, L + 1])
def test_modes_are_restored_if_a_block_fails(call):
    backbone = make(drop_path_rate=0.2).train()
    before = [module.training for module in backbone.modules()]
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) == call:
            raise RuntimeError('broken block')

    for layer in backbone.layers:
        layer.attn.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match='broken block'):
        backbone(image())
    assert [module.training for module in backbone.modules()] == before


def test_parents_frozen_stages_survive_train():
    backbone = make(frozen=False, frozen_stages=2).train()
    for number, layer in enumerate(backbone.layers):
        assert {module.training for module in layer.modules()} == {number >= 2}
    frozen = ('layers.0', 'layers.1', 'patch_embed', 'pos_embed', 'cls_token')
    assert not [name for name in trained(backbone) if name.startswith(frozen)]
    assert {'layers.2.ln1.weight', 'ln1.weight'} <= trained(backbone).keys()


class Attentions(TorchFunctionMode):
    """Records calls of the fused attention, and forbids any other attention."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        assert function not in (torch.softmax, F.softmax, torch.Tensor.softmax)
        if function is F.scaled_dot_product_attention:
            self.calls.append(args)
        return function(*args, **(kwargs or {}))


def test_fused_attention_gets_the_signal_on_the_values_only():
    backbone = make()
    with Attentions() as attentions:
        backbone(image())
    assert len(attentions.calls) == 2 * L
    # Block 0 sees the same tokens in both passes: queries and keys are the same, values are not.
    plain, steered = attentions.calls[0], attentions.calls[L]
    torch.testing.assert_close(plain[:2], steered[:2], rtol=0, atol=0)
    assert (plain[2] - steered[2]).abs().max() > 0.1


@pytest.mark.parametrize(
    ('source', 'target', 'first', 'second', 'given'),
    [
        ('last', 'first', L, L, L),
        ('middle', 'first', 2, L, 2),
        ('last', 'middle', L, 2, 2),
        (3, 1, 3, 3, 2),
    ],
)
def test_work_is_two_passes_and_three_products_per_receiver(source, target, first, second, given):
    backbone = make(feedback_from=source, feedback_to=target)
    with FlopCounterMode(display=False) as counter:
        backbone(image(batch=1))
    counts = counter.get_flop_counts()['Global']
    products = sum(
        counts.get(op, 0) for op in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm)
    )
    n = 17  # tokens
    per_block = 2 * n * C * (3 * C + C + 2 * HIDDEN)
    assert products == (first + second) * per_block + (given * 3 + 1) * 2 * n * C * C
    assert counts[torch.ops.aten.convolution] == 2 * 16 * C * 3 * PATCH**2


@pytest.mark.parametrize(('source', 'target'), ROUTES)
def test_frozen_first_pass_keeps_nothing_for_a_backward_pass(source, target):
    backbone = make(feedback_from=source, feedback_to=target).train()
    kept = []
    backbone.topdown.register_forward_pre_hook(lambda _, z: kept.append(z[0]))
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append('saved') or x, lambda x: x):
        backbone(image())
    assert isinstance(kept[0], torch.Tensor)  # first of all came the top-down module
    assert not kept[0].requires_grad
    assert 'saved' in kept


# Drop path


def keep_factors(rate, batch, blocks):
    """Draws of stochastic depth, in the order of one pass over the blocks, from the global seed."""
    factors = [(torch.ones(()), torch.ones(()))] * L
    for index in blocks:
        if p := rate * index / (L - 1):  # 0 -> rate, linearly
            draws = (torch.rand(batch, 1, 1, dtype=torch.double) for _ in range(2))
            factors[index] = tuple((draw >= p).double() / (1 - p) for draw in draws)
    return factors


@pytest.mark.parametrize(('source', 'target'), ROUTES)
@frozen_or_not
def test_drop_path_acts_in_the_second_pass_only(source, target, frozen):
    backbone = make(
        feedback_from=source, feedback_to=target, drop_path_rate=0.6, frozen=frozen
    ).train()
    k, j = backbone.route.feedback_from, backbone.route.feedback_to
    torch.manual_seed(5)
    keep = keep_factors(0.6, 8, range(j, L))
    assert any((factor == 0).any() for pair in keep for factor in pair)
    torch.manual_seed(5)
    outputs = backbone(image(batch=8))
    assert_same(backbone, outputs, reference(backbone, image(batch=8), k, j, keep=keep)[-1:])


def test_nothing_is_dropped_in_eval_mode():
    backbone = make(drop_path_rate=0.6).eval()
    assert_same(backbone, backbone(image()), reference(backbone, image(), L, 0)[-1:])


@pytest.mark.parametrize('use_reentrant', [True, False])
@pytest.mark.parametrize('drop_path_rate', [0, 0.6])
@frozen_or_not
@pytest.mark.filterwarnings('ignore:None of the inputs have requires_grad')
def test_activation_checkpointing_changes_nothing(use_reentrant, drop_path_rate, frozen):
    """Layers wrapped as by mmengine: the recomputed layers see signals and modes of their pass."""
    backbone = make(drop_path_rate=drop_path_rate, drop_rate=drop_path_rate, frozen=frozen).train()
    results = []
    for checkpointed in (False, True):
        if checkpointed:
            for layer in backbone.layers:
                layer.forward = partial(checkpoint, layer.forward, use_reentrant=use_reentrant)
        backbone.zero_grad()
        torch.manual_seed(5)
        outputs = backbone(image(batch=4))
        loss(outputs).backward()
        grads = {name: value.grad.clone() for name, value in trained(backbone).items()}
        results.append((outputs, grads))
    torch.testing.assert_close(*results)


# What trains, for optimizers and distributed training


@pytest.mark.parametrize('out_type', ['featmap', 'cls_token', 'avg_featmap'])
@pytest.mark.parametrize('out_indices', [[3], [0, 2], [1], [2]])
@pytest.mark.parametrize(('source', 'target'), [*ROUTES, (1, 0), (None, 'first')])
@frozen_or_not
def test_exactly_what_gets_a_gradient_trains(source, target, out_indices, out_type, frozen):
    kwargs = dict(
        feedback_from=source,
        feedback_to=target,
        out_indices=out_indices,
        out_type=out_type,
        frozen=frozen,
    )
    if source == 'last' and target == 'middle' and out_indices == [1]:
        with pytest.raises(ValueError, match='no output would be steered'):
            make(**kwargs)
        return
    backbone = make(**kwargs).train()
    trains = set(trained(backbone))
    backbone.requires_grad_(True)
    loss(backbone(image(batch=1))).backward()
    used = {name for name, value in backbone.named_parameters() if value.grad is not None}
    tuned = ('topdown.', 'ln2.')
    assert trains == {name for name in used if not frozen or name.startswith(tuned)}


@pytest.mark.parametrize(
    ('kwargs', 'unused'),
    [
        ({}, []),
        (dict(out_indices=[1]), ['2.emit', '3.emit']),
        (dict(feedback_from=3, feedback_to=1, out_indices=[1]), ['2.emit']),
    ],
)
def test_signals_without_use_do_not_train(kwargs, unused):
    backbone = make(**kwargs)
    names = [
        name
        for name, value in backbone.named_parameters()
        if name.startswith('topdown.') and not value.requires_grad
    ]
    assert names == [f'topdown.feedback.layers.{name}.weight' for name in unused]


# Sizes


COUNTS = [
    ('base', 'last', 'first', 24 * 768**2),
    ('base', 'middle', 'first', 12 * 768**2),
    ('base', 'last', 'middle', 12 * 768**2),
    ('deit-small', 'last', 'first', 24 * 384**2),
    ('large', 'last', 'first', 48 * 1024**2),
]


@pytest.mark.parametrize(('arch', 'source', 'target', 'feedback'), COUNTS)
def test_number_of_parameters(arch, source, target, feedback):
    with torch.device('meta'):
        backbone = TOASTViT(arch=arch, feedback_from=source, feedback_to=target)
        plain = VisionTransformer(arch=arch)
    topdown = backbone.topdown
    assert sum(value.numel() for value in topdown.feedback.parameters()) == feedback
    assert topdown.selection.channel_transform.numel() == backbone.embed_dims**2
    assert topdown.selection.task_embedding.numel() == backbone.embed_dims
    tuned = feedback + backbone.embed_dims**2 + backbone.embed_dims
    assert sum(value.numel() for value in trained(backbone).values()) == tuned
    total = sum(value.numel() for value in plain.parameters()) + tuned
    assert sum(value.numel() for value in backbone.parameters()) == total
    if (arch, source, target) == COUNTS[0][:3]:
        assert round(feedback / 1e6, 2) == 14.16
        assert round(backbone.embed_dims**2 / 1e6, 2) == 0.59


# One of the names of each arch.
ARCHS = {id(settings): arch for arch, settings in VisionTransformer.arch_zoo.items()}.values()


@pytest.mark.parametrize('arch', ARCHS)
def test_every_arch(arch):
    with torch.device('meta'):
        backbone = TOASTViT(arch=arch, img_size=28, patch_size=14, feedback_from='middle')
        output = backbone(torch.empty(1, 3, 28, 28))[0]
    settings = VisionTransformer.arch_zoo[arch]
    assert output.shape == (1, settings['embed_dims'])
    assert len(backbone.layers) == settings['num_layers']
    receivers = map(str, range(settings['num_layers'] // 2))
    assert list(backbone.topdown.feedback.layers) == list(receivers)


def test_default_is_the_papers_method():
    with torch.device('meta'):
        backbone = TOASTViT(arch='deit-tiny')
    assert (backbone.route.feedback_from, backbone.route.feedback_to) == (12, 0)
    assert all(value.requires_grad for value in backbone.topdown.parameters())
    assert all(layer.attn.value_bias_twice for layer in backbone.layers)
    assert backbone.frozen
    assert backbone.out_type == 'cls_token'
    assert backbone.out_indices == [11]


# Errors


@pytest.mark.parametrize('out_indices', [4, -5, [0, 7], [-9, 3], []])
def test_out_indices_out_of_range(out_indices):
    with pytest.raises(ValueError) as caught:
        make(out_indices=out_indices)
    for part in (f'out_indices={out_indices}', '0..3', '-4..-1'):
        assert part in str(caught.value)


def test_out_indices_below_the_first_receiver():
    with pytest.raises(ValueError, match=r'out_indices=\[0, 1\].*receives a signal, 2'):
        make(out_indices=[0, 1], feedback_to='middle')
    make(out_indices=[0, 1], feedback_from=None)  # nothing is steered: any block will do


@pytest.mark.parametrize(
    ('route', 'error', 'parts'),
    [
        (dict(feedback_from=5), ValueError, ['feedback_from=5', '1..4']),
        (dict(feedback_from=0), ValueError, ['feedback_from=0', '1..4']),
        (dict(feedback_from=2, feedback_to=2), ValueError, ['feedback_to=2', '0..1']),
        (dict(feedback_from='end'), TypeError, ["feedback_from='end'", "'middle', 'last'"]),
        (dict(feedback_to=True), TypeError, ['feedback_to=True', "'first', 'middle'"]),
        (dict(feedback_to=1.0), TypeError, ['feedback_to=1.0', 'must be int | str']),
    ],
)
def test_route_that_does_not_fit(route, error, parts):
    with pytest.raises(error) as caught:
        make(**route)
    for part in parts:
        assert part in str(caught.value)


# Around it


@pytest.mark.parametrize(
    'clone', [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=['deepcopy', 'pickle']
)
def test_copies(clone):
    backbone = make(drop_path_rate=0.3, feedback_from=3, feedback_to=1).train()
    twin = clone(backbone)
    for model in (backbone, twin):
        model.train()
    outputs = []
    for model in (backbone, twin):
        torch.manual_seed(4)
        outputs.append(model(image())[0])
    assert torch.equal(*outputs)
    assert [module.training for module in twin.modules()] == [
        module.training for module in backbone.modules()
    ]
    assert trained(twin).keys() == trained(backbone).keys()
    with torch.no_grad():
        twin.topdown.selection.task_embedding.neg_()
    assert not torch.equal(backbone.eval()(image())[0], twin.eval()(image())[0])
    state = twin.state_dict()
    del state['cls_token']
    with pytest.raises(CheckpointError, match='missing: cls_token'):
        twin.load_state_dict(state)


@frozen_or_not
def test_bfloat16_autocast(frozen):
    backbone = make(double=False, frozen=frozen, feedback_from='middle')
    x = image(dtype=torch.float)
    expected = backbone(x)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        outputs = backbone(x)
    torch.testing.assert_close(outputs, expected, rtol=0.05, atol=0.15, check_dtype=False)
    assert not torch.equal(outputs[0], expected[0])  # it was in force
    grads, wanted = gradients(outputs, backbone), gradients(expected, backbone)
    for name, gradient in grads.items():
        assert gradient.dtype == torch.float
        assert (gradient - wanted[name]).norm() < 0.1 * wanted[name].norm() + 0.01, name


def test_whole_model_in_bfloat16():
    backbone = make()
    expected = backbone(image())[0]
    output = backbone.bfloat16()(image(dtype=torch.bfloat16))[0]
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.double(), expected, rtol=0.1, atol=0.3)


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmseg', 'toast_mm'])
def test_is_built_from_configs_of_any_scope(scope):
    with MODELS.switch_scope_and_registry(scope):
        backbone = MODELS.build(dict(type='toast_mm.TOASTViT', arch=dict(ARCH), img_size=32))
    assert type(backbone) is TOASTViT
