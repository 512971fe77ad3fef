"""TOASTConvNeXt against both passes written from the equations, and against its parent."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models import ConvNeXt
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.pretuned import save_pretuned
from toast_mm.models import TOASTConvNeXt

L, CHANNELS, DEPTHS, STEM = 4, (6, 8, 10, 12), (1, 2, 1, 1), 4
ARCH = dict(depths=list(DEPTHS), channels=list(CHANNELS))
ROUTES = [('last', 'first'), ('middle', 'first'), ('last', 'middle'), (3, 1)]
DENSE = dict(out_indices=range(L), gap_before_final_norm=False)

# Every switch of the parent that changes what is computed.
VARIANTS = {
    'v1': {},
    'v2': dict(use_grn=True, layer_scale_init_value=0.0),
    'convolutions for linear layers': dict(linear_pw_conv=False),
    'stem of 2': dict(stem_patch_size=2),
}
variants = pytest.mark.parametrize('variant', VARIANTS.values(), ids=VARIANTS)
routes = pytest.mark.parametrize(('source', 'target'), ROUTES)
frozen_or_not = pytest.mark.parametrize('frozen', [True, False])


def make(cls=TOASTConvNeXt, double=True, **kwargs):
    """A backbone with values everywhere, norms and biases included, that make a difference."""
    torch.manual_seed(0)
    out_indices = list(kwargs.pop('out_indices', [L - 1]))  # mmpretrain's changes its argument
    backbone = cls(**dict(arch=ARCH, out_indices=out_indices) | kwargs)
    for name, parameter in backbone.named_parameters():
        scale = parameter.ndim == 1 and name.endswith('.weight')  # of a norm
        torch.nn.init.normal_(parameter, mean=float(scale), std=0.3)
    return backbone.double() if double else backbone


def image(size=(64, 64), batch=2, dtype=torch.double):
    generator = torch.Generator().manual_seed(7)
    return torch.randn(batch, 3, *size, dtype=torch.double, generator=generator).to(dtype)


# The equations of paper sec. 4.4 on nothing but the named weights; maps are (B, C, H, W).


def norm(x, p=None, name=None):
    """Over channels; without a name there are no parameters."""
    centered = x - x.mean(1, keepdim=True)
    x = centered / (centered.square().mean(1, keepdim=True) + 1e-6).sqrt()
    if name is None:
        return x
    return x * p[f'{name}.weight'].view(-1, 1, 1) + p[f'{name}.bias'].view(-1, 1, 1)


def pointwise(x, p, name):
    weight = p[f'{name}.weight'].flatten(1)
    return torch.einsum('oi,bihw->bohw', weight, x) + p[f'{name}.bias'].view(-1, 1, 1)


def layer(x, p, name, keep):
    kernel, bias = p[f'{name}.depthwise_conv.weight'], p[f'{name}.depthwise_conv.bias']
    inner = F.conv2d(x, kernel, bias, padding=3, groups=x.shape[1])
    inner = F.gelu(pointwise(norm(inner, p, f'{name}.norm'), p, f'{name}.pointwise_conv1'))
    if f'{name}.grn.gamma' in p:
        size = inner.square().sum((2, 3), keepdim=True).sqrt()
        response = size / (size.mean(1, keepdim=True) + 1e-6)
        gamma, beta = (p[f'{name}.grn.{which}'].view(-1, 1, 1) for which in ('gamma', 'beta'))
        inner = gamma * inner * response + beta + inner
    inner = pointwise(inner, p, f'{name}.pointwise_conv2')
    if f'{name}.gamma' in p:
        inner = inner * p[f'{name}.gamma'].view(-1, 1, 1)
    return x + keep * inner


def patches(x, p, name):
    """Convolution with patches that do not overlap; the rest at the edge is cut off."""
    weight, bias = p[f'{name}.weight'], p[f'{name}.bias']
    side = weight.shape[-1]
    x = x.unfold(2, side, side).unfold(3, side, side)
    return torch.einsum('oiyx,bihwyx->bohw', weight, x) + bias.view(-1, 1, 1)


def stage(x, p, index, keep=None):
    name = f'downsample_layers.{index}'
    if index == 0:
        x = norm(patches(x, p, f'{name}.0'), p, f'{name}.1')
    else:
        x = patches(norm(x, p, f'{name}.0'), p, f'{name}.1')
    for number in range(DEPTHS[index]):
        x = layer(x, p, f'stages.{index}.{number}', keep[index, number] if keep else 1)
    return x


def deconvolve(x, weight, size):
    """Every pixel becomes a patch; pixels beyond all patches repeat the last ones."""
    spread = torch.einsum('bihw,ioyx->bohywx', x, weight)
    spread = spread.flatten(4, 5).flatten(2, 3)
    rows, columns = (
        torch.arange(wanted).clamp(max=given - 1)
        for wanted, given in zip(size, spread.shape[-2:], strict=True)
    )
    return spread[:, :, rows][..., columns]


def reference(backbone, x, k, j, keep=None, mask=True):
    """Stream after every stage of the second pass, read after k stages, given to j .. k-1."""
    p = dict(backbone.named_parameters())
    streams = [x]
    for index in range(k):
        streams.append(stage(streams[-1], p, index))
    u = streams[k]
    scored = norm(u, p, 'norm3') if k == L else norm(u)
    xi = p['topdown.selection.task_embedding'].view(-1, 1, 1)
    cosine = (scored * xi).sum(1) / (scored.square().sum(1).sqrt() * xi.square().sum().sqrt())
    relevance = cosine.clamp(min=0).unsqueeze(1) if mask else 1
    transform = p['topdown.selection.channel_transform']
    hidden = torch.einsum('bihw,io->bohw', relevance * u, transform)
    signals = {}
    for index in range(k - 1, j - 1, -1):
        name = f'topdown.feedback.layers.{index}'
        weight = p[f'{name}.descend.weight']
        hidden = deconvolve(hidden, weight, streams[index].shape[-2:])
        emit = p[f'{name}.emit.weight'].flatten(1)
        signals[index] = torch.einsum('oi,bihw->bohw', emit, hidden)
    outputs = []
    for index in range(L):
        x = stage(x + signals.get(index, 0), p, index, keep)
        outputs.append(x)
    return outputs


def pooled(backbone, outputs):
    p = dict(backbone.named_parameters())
    return [
        norm(outputs[index].mean((2, 3), keepdim=True), p, f'norm{index}')[..., 0, 0]
        for index in backbone.out_indices
    ]


def dense(backbone, outputs):
    p = dict(backbone.named_parameters())
    return [norm(outputs[index], p, f'norm{index}') for index in backbone.out_indices]


def loss(outputs):
    """Unlike a sum, this sees a difference in any element of a normed map."""
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


@variants
@frozen_or_not
def test_both_passes_of_a_classifier(variant, frozen):
    backbone = make(frozen=frozen, **variant)
    outputs = backbone(image())
    assert outputs[0].shape == (2, CHANNELS[-1])
    assert_same(backbone, outputs, pooled(backbone, reference(backbone, image(), L, 0)))


@routes
@frozen_or_not
def test_both_passes_of_a_dense_backbone(source, target, frozen):
    backbone = make(feedback_from=source, feedback_to=target, frozen=frozen, **DENSE)
    k, j = backbone.route.feedback_from, backbone.route.feedback_to
    expected = {'last': L, 'middle': 2, 'first': 0}
    assert (k, j) == (expected.get(source, source), expected.get(target, target))
    assert_same(backbone, backbone(image()), dense(backbone, reference(backbone, image(), k, j)))


# No multiple of 32: rows, columns or both are cut off, by one stage or by several.
@pytest.mark.parametrize('size', [(32, 96), (65, 64), (64, 95), (63, 79), (100, 52), (47, 33)])
@pytest.mark.parametrize(('source', 'target'), [('last', 'first'), (3, 1)])
def test_any_input_size(size, source, target):
    backbone = make(feedback_from=source, feedback_to=target, **DENSE)
    k, j = backbone.route.feedback_from, backbone.route.feedback_to
    x = image(size)
    outputs = backbone(x)
    assert [out.shape[-2:] for out in outputs] == [
        (size[0] // (4 * 2**index), size[1] // (4 * 2**index)) for index in range(L)
    ]
    assert_same(backbone, outputs, dense(backbone, reference(backbone, x, k, j)))


def test_selection_and_feedback_matter():
    """The comparisons above are meaningful: there are masked and unmasked pixels, large signals."""
    backbone = make()
    for _ in range(2):
        with backbone.recording() as record:
            steered = backbone(image((96, 96)))[0]
        one, other = record.z[0, 0, :2].detach()
        backbone.topdown.selection.task_embedding.data = one - other
    mask = backbone.topdown.selection.mask(record.z)
    assert (mask == 0).any() and (mask > 0.1).any()
    assert all(signal.std() > 0.1 for signal in record.signals.values())
    backbone.topdown = None
    assert (steered - backbone(image((96, 96)))[0]).abs().max() > 0.1


def test_without_pixel_selection_every_pixel_passes():
    backbone = make(token_selection=False)
    assert 'topdown.selection.task_embedding' not in trained(backbone)
    expected = pooled(backbone, reference(backbone, image(), L, 0, mask=False))
    assert_same(backbone, backbone(image()), expected)


def test_ablations_choose_what_trains():
    every = set(trained(make()))
    embedding, transform = 'topdown.selection.task_embedding', 'topdown.selection.channel_transform'
    assert len(every) == 2 + 2 * L
    assert {name.split('.')[0] for name in every} == {'topdown'}
    assert set(trained(make(channel_selection=False))) == {embedding}
    assert set(trained(make(tune_channel_transform=False))) == every - {transform}


# The parent


@variants
@pytest.mark.parametrize('removed', ['never built', 'afterwards'])
@pytest.mark.parametrize('gap', [True, False])
def test_without_topdown_it_is_its_parent_bit_for_bit(variant, gap, removed):
    kwargs = dict(variant, gap_before_final_norm=gap, double=False)
    parent = make(ConvNeXt, out_indices=[1, 3], **kwargs)
    route = {} if removed == 'afterwards' else dict(feedback_from=None)
    backbone = make(out_indices=[1, -1], **route, **kwargs)
    backbone.topdown = None
    assert list(backbone.state_dict()) == list(parent.state_dict())
    backbone.load_state_dict(parent.state_dict())
    for size in ((64, 64), (65, 50)):
        x = image(size, dtype=torch.float)
        outputs, expected = backbone(x), parent(x)
        assert len(outputs) == len(expected) == 2
        assert all(map(torch.equal, outputs, expected))


def test_without_topdown_an_unfrozen_backbone_trains_as_its_parent():
    kwargs = dict(drop_path_rate=0.5)
    parent = make(ConvNeXt, **kwargs)
    backbone = make(feedback_from=None, frozen=False, **kwargs)
    backbone.load_state_dict(parent.state_dict())
    results = []
    for model in (parent, backbone):
        model.train()
        torch.manual_seed(3)
        outputs = model(image().requires_grad_())
        loss(outputs).backward()
        results.append((outputs, {name: p.grad for name, p in trained(model).items()}))
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert len(results[0][1]) == len(list(parent.parameters()))


def test_arches_of_the_parent():
    backbone, parent = TOASTConvNeXt(arch='atto'), ConvNeXt(arch='atto')
    kept = {name for name in backbone.state_dict() if not name.startswith('topdown.')}
    assert kept == parent.state_dict().keys()
    shapes = [p.shape for p in backbone.topdown.feedback.layers['3'].parameters()]
    top, below = backbone.channels[3], backbone.channels[2]
    assert shapes == [(top, below, 2, 2), (below, below, 1, 1)]


def test_a_classification_checkpoint_is_complete_for_dense_outputs(tmp_path):
    """Norms below the last stage are new: they train, and checkpoints may lack them."""
    torch.save(make(ConvNeXt, double=False).state_dict(), tmp_path / 'convnext.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'convnext.pth'))
    backbone = make(double=False, init_cfg=init_cfg, **DENSE)
    backbone.init_weights()
    new = {f'norm{stage}.{which}' for stage in range(3) for which in ('weight', 'bias')}
    assert {name for name in trained(backbone) if not name.startswith('topdown.')} == new


@pytest.mark.parametrize(
    ('change', 'complaint'),
    [
        (dict(arch=dict(depths=[1, 2, 2, 1], channels=ARCH['channels'])), 'stages.2.1.'),
        (dict(arch=dict(depths=[1, 1, 1, 1], channels=ARCH['channels'])), 'stages.1.1.'),
        (dict(arch=dict(depths=ARCH['depths'], channels=[6, 8, 10, 16])), '(12,) instead of (16,)'),
        (dict(use_grn=True), 'stages.0.0.grn.gamma'),
    ],
)
def test_refuses_a_checkpoint_of_another_backbone(change, complaint, tmp_path):
    torch.save(make(ConvNeXt, double=False).state_dict(), tmp_path / 'convnext.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'convnext.pth'))
    with pytest.raises(CheckpointError) as caught:
        make(double=False, init_cfg=init_cfg, **change).init_weights()
    assert complaint in str(caught.value)
    assert 'convnext.pth' in str(caught.value)


def test_pretuned_module_of_a_classifier_serves_dense_outputs(tmp_path):
    source = make(double=False)
    base = {k: v for k, v in source.state_dict().items() if not k.startswith('topdown.')}
    torch.save(base, tmp_path / 'base.pth')
    save_pretuned(source, str(tmp_path / 'topdown.safetensors'))
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'base.pth'))
    pretuned = str(tmp_path / 'topdown.safetensors')
    backbone = make(double=False, init_cfg=init_cfg, pretuned=pretuned, **DENSE)
    backbone.init_weights()
    torch.testing.assert_close(backbone.topdown.state_dict(), source.topdown.state_dict())


# What is run, and in which mode


@pytest.mark.parametrize(
    ('source', 'target', 'out_indices', 'first', 'second'),
    [
        ('last', 'first', [3], [0, 1, 2, 3], [0, 1, 2, 3]),
        ('middle', 'first', [3], [0, 1], [0, 1, 2, 3]),
        ('last', 'middle', [3], [0, 1, 2, 3], [2, 3]),
        (3, 1, [0, 1, 2, 3], [0, 1, 2], [1, 2, 3]),
        (2, 1, [1], [0, 1], [1]),
    ],
)
@frozen_or_not
def test_runs_exactly_the_stages_it_needs(source, target, out_indices, first, second, frozen):
    backbone = make(
        feedback_from=source,
        feedback_to=target,
        out_indices=out_indices,
        frozen=frozen,
        drop_path_rate=0.2,
    ).train()
    log = []

    def before(index, block, args):
        log.append((index, block.training, block.drop_path.training))

    for index, layers in enumerate(backbone.stages):
        layers[0].norm.register_forward_pre_hook(
            lambda *_, index=index, block=layers[0]: before(index, block, _)
        )
    backbone.topdown.register_forward_pre_hook(lambda *_: log.append('topdown'))
    backbone(image())
    # The first layer has no drop rate, and so no module with a mode.
    drops = {0: not frozen}
    assert log == [
        *((index, False, False) for index in first),
        'topdown',
        *((index, not frozen, drops.get(index, True)) for index in second),
    ]


@frozen_or_not
def test_modes_survive_train_and_forward(frozen):
    backbone = make(frozen=frozen, drop_path_rate=0.2)
    for mode in (True, False, True):
        assert backbone.train(mode) is backbone
        for _ in range(2):
            for name, module in backbone.named_modules():
                tuned = not frozen or name.split('.')[0] in ('', 'topdown')
                assert module.training is (mode and tuned), name
            backbone(image())


@routes
def test_work_is_two_passes_and_the_feedback(source, target):
    backbone = make(feedback_from=source, feedback_to=target)
    k, j = backbone.route.feedback_from, backbone.route.feedback_to

    def stage_flops(index):
        side, channels = 64 // (4 * 2**index), CHANNELS[index]
        below, kernel = (3, 4) if index == 0 else (CHANNELS[index - 1], 2)
        down = below * channels * kernel**2
        return side**2 * (down + DEPTHS[index] * (49 * channels + 8 * channels**2))

    def feedback_flops(index):
        side, above = 64 // (4 * 2**index), CHANNELS[index]
        below, kernel = (3, 4) if index == 0 else (CHANNELS[index - 1], 2)
        return (side * kernel) ** 2 * (above * below + below**2)

    with FlopCounterMode(display=False) as counter:
        backbone(image(batch=1))
    transform = (64 // (4 * 2 ** (k - 1))) ** 2 * CHANNELS[k - 1] ** 2
    assert counter.get_total_flops() == 2 * (
        sum(map(stage_flops, range(k)))
        + sum(map(stage_flops, range(j, L)))
        + transform
        + sum(map(feedback_flops, range(j, k)))
    )


@routes
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


def keep_factors(rate, batch, stages):
    """Draws of stochastic depth, in the order of one pass, from the global seed."""
    factors, rates = {}, iter(torch.linspace(0, rate, sum(DEPTHS)).tolist())
    for index, depth in enumerate(DEPTHS):
        for number in range(depth):
            factors[index, number] = torch.ones(())
            if (p := next(rates)) and index in stages:
                draw = torch.rand(batch, 1, 1, 1, dtype=torch.double)
                factors[index, number] = (draw >= p).double() / (1 - p)
    return factors


@routes
@frozen_or_not
def test_drop_path_acts_in_the_second_pass_only(source, target, frozen):
    backbone = make(
        feedback_from=source, feedback_to=target, drop_path_rate=0.6, frozen=frozen
    ).train()
    k, j = backbone.route.feedback_from, backbone.route.feedback_to
    torch.manual_seed(5)
    keep = keep_factors(0.6, 8, range(j, L))
    assert any((factor == 0).any() for factor in keep.values())
    torch.manual_seed(5)
    outputs = backbone(image(batch=8))
    expected = pooled(backbone, reference(backbone, image(batch=8), k, j, keep=keep))
    assert_same(backbone, outputs, expected)


@pytest.mark.parametrize('how', ['with_cp', 'wrapped'])
@pytest.mark.parametrize('drop_path_rate', [0, 0.6])
@frozen_or_not
def test_activation_checkpointing_changes_nothing(how, drop_path_rate, frozen):
    """By the argument, or layers wrapped as by mmengine: each has the modes of its pass."""
    results = []
    for checkpointed in (False, True):
        with_cp = checkpointed and how == 'with_cp'
        backbone = make(drop_path_rate=drop_path_rate, frozen=frozen, with_cp=with_cp).train()
        if checkpointed and not with_cp:
            for block in (block for stage in backbone.stages for block in stage):
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        torch.manual_seed(5)
        outputs = backbone(image(batch=4))
        loss(outputs).backward()
        grads = {name: value.grad.clone() for name, value in trained(backbone).items()}
        results.append((outputs, grads))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize(('source', 'passes'), [('last', 2), (None, 1)])
def test_with_cp_runs_layers_again_in_the_backward_pass(source, passes):
    backbone = make(with_cp=True, feedback_from=source, frozen=False).train()
    calls = []
    for block in (block for stage in backbone.stages for block in stage):
        block.norm.register_forward_hook(lambda *_: calls.append(1))
    outputs = backbone(image())
    assert len(calls) == passes * sum(DEPTHS)
    loss(outputs).backward()
    assert len(calls) == 2 * passes * sum(DEPTHS)


# What trains, for optimizers and distributed training


@pytest.mark.parametrize('out_indices', [[3], [0, 2], [1], [2], [1, 3]])
@pytest.mark.parametrize(('source', 'target'), [*ROUTES, (1, 0), (None, 'first')])
@frozen_or_not
def test_exactly_what_gets_a_gradient_trains(source, target, out_indices, frozen):
    kwargs = dict(feedback_from=source, feedback_to=target, out_indices=out_indices, frozen=frozen)
    if source == 'last' and 3 not in out_indices:
        with pytest.raises(ValueError, match=r'add it to out_indices='):
            make(**kwargs)
        return
    backbone = make(**kwargs).train()
    trains = set(trained(backbone))
    backbone.requires_grad_(True)
    loss(backbone(image(batch=1))).backward()
    used = {name for name, value in backbone.named_parameters() if value.grad is not None}
    tuned = ('topdown.', 'norm0.', 'norm1.', 'norm2.')
    assert trains == {name for name in used if not frozen or name.startswith(tuned)}


@pytest.mark.parametrize('out_indices', [[], [4], [-5, 1]])
def test_wrong_output_indices(out_indices):
    with pytest.raises(ValueError, match=r'must name blocks of this backbone: 0\.\.3'):
        make(out_indices=out_indices)


def test_signal_ratio():
    backbone = make()
    with torch.no_grad(), backbone.recording() as record:
        backbone(image())
    for stage_number, entering in record.inputs.items():
        signal = record.signals[stage_number]
        expected = (signal.square().sum() / entering.square().sum()).sqrt().item()
        assert backbone.signal_ratio(stage_number, entering, signal) == pytest.approx(expected)


def test_signal_ratio_of_norms_beyond_float16():
    stream = torch.full((1, 4, 64, 64), 1000.0, dtype=torch.float16)
    assert stream.norm().isinf()
    assert make().signal_ratio(0, stream, stream / 2) == 0.5


def test_channels_last_changes_nothing():
    backbone = make(**DENSE)
    expected = backbone(image())
    outputs = backbone.to(memory_format=torch.channels_last)(
        image().to(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(outputs, expected)


def test_bfloat16_autocast():
    backbone = make(double=False)
    expected = backbone(image(dtype=torch.float))[0]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        output = backbone(image(dtype=torch.float))[0]
    assert (output.float() - expected).norm() < 0.05 * expected.norm()
