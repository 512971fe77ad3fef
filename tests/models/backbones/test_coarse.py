"""A first pass on smaller images: by hand, plain blocks run on them, and signals are resized."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from small_backbones import KINDS, SMALL, TIMM, VIT, plain, scatter, tuned
from torch.utils.checkpoint import checkpoint

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.adapter import frozen_base, leave_out_base, make_record
from toast_mm.engine.first_passes import cache_key
from toast_mm.engine.first_passes.cache import FirstPassCache, write
from toast_mm.models import TOASTConvNeXt, TOASTTimm, TOASTViT
from toast_mm.models.backbones.steering import norm_ratio
from toast_mm.visualization import attention_maps

ROUTES = [('last', 'first'), ('middle', 'first'), ('last', 'middle')]
TOKENS = {'vit': 1, 'timm': 5, 'eva': 1}  # extra tokens: class token and registers
PATCH = {'vit': 8, 'timm': 8, 'eva': 8, 'convnext': 2, 'stages': 4, 'swin': 4, 'batch norm': 2}
kinds = pytest.mark.parametrize('kind', PATCH)
routes = pytest.mark.parametrize(('source', 'target'), ROUTES)
SIZE = (64, 96)


def steered(kind, source='last', target='first', scale=0.5, **arguments):
    first_pass = None if scale is None else dict(scale=scale)
    return tuned(
        kind, None, feedback_from=source, feedback_to=target, first_pass=first_pass, **arguments
    )


def images(*size, seed=7):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, *(size or SIZE), dtype=torch.double, generator=generator)


def weights(given, wanted):
    """Bilinear weights ``(wanted, given)``: a triangle as wide as a pixel of the coarser grid."""
    centres = (torch.arange(wanted, dtype=torch.double) + 0.5) * given / wanted
    places = torch.arange(given, dtype=torch.double) + 0.5
    found = (1 - (places - centres[:, None]).abs() / max(given / wanted, 1)).clamp(min=0)
    return found / found.sum(1, keepdim=True)


def resized(maps, size):
    rows, columns = (weights(*pair) for pair in zip(maps.shape[-2:], size, strict=True))
    return rows @ maps @ columns.T


def fitted(kind, signal, stream, grids):
    """A signal on the grid of a stream."""
    if kind not in TOKENS:
        return resized(signal, stream.shape[-2:])
    coarse, grid = grids
    patches = signal[:, TOKENS[kind] :].transpose(1, 2).unflatten(2, coarse)
    patches = resized(patches, grid).flatten(2).transpose(1, 2)
    return torch.cat((signal[:, : TOKENS[kind]], patches), dim=1)


def by_hand(backbone, kind, image, size):
    """Outputs of both passes with the blocks of a backbone that was built for whole images."""
    route, (stream, coarse) = backbone.route, backbone.embed(resized(image, size))
    shared, sizes = backbone.shared_arguments(coarse), {}
    for block in range(route.feedback_from):
        sizes[block] = stream.shape[-2:]
        stream = backbone.run_block(block, stream, **shared)
    signals = backbone.topdown(*backbone.read_out(stream), sizes)
    stream, grid = backbone.embed(image)
    shared = backbone.shared_arguments(grid)
    for block in range(backbone.depth):
        signal = signals.get(block)
        if signal is not None:
            signal = fitted(kind, signal, stream, (coarse, grid))
        stream = backbone.run_block(block, stream, signal, **shared)
    return backbone.format_output(backbone.depth - 1, stream, grid)


def gradients(output, backbone):
    trained = [p for p in backbone.topdown.parameters() if p.requires_grad]
    return torch.autograd.grad(output.square().sum(), trained)


@routes
@kinds
def test_both_passes(kind, source, target):
    output = (backbone := steered(kind, source, target))(images())[-1]
    whole = steered(kind, source, target, scale=None)
    expected = by_hand(whole, kind, images(), (32, 48))
    torch.testing.assert_close(output, expected)
    assert not torch.allclose(output, whole(images())[-1], rtol=1e-3)
    torch.testing.assert_close(
        gradients(output, backbone), gradients(expected, whole), rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize(
    ('kind', 'scale', 'size', 'coarse'),
    [
        ('vit', 1 / 3, (48, 72), (16, 24)),
        ('vit', 0.3, (64, 96), (16, 32)),  # 2.4 and 3.6 patches
        ('vit', 0.75, (48, 80), (40, 64)),  # 4.5 and 7.5 patches
        ('vit', 0.99, (32, 32), (32, 32)),
        ('vit', 0.25, (32, 64), (8, 16)),  # one patch high
        ('timm', 0.7, (40, 64), (32, 48)),  # 3.5 and 5.6 patches
        ('eva', 0.4, (40, 24), (16, 8)),  # 2 and 1.2 patches
        ('convnext', 0.5, (75, 94), (38, 48)),  # 18.75 and 23.5 strides
        ('convnext', 0.6, (64, 51), (38, 30)),
        ('stages', 0.5, (75, 101), (36, 52)),
        ('swin', 0.5, (75, 101), (36, 52)),
        ('batch norm', 0.5, (75, 101), (38, 50)),
    ],
)
def test_other_scales_and_odd_sizes(kind, scale, size, coarse):
    output = steered(kind, scale=scale)(images(*size))[-1]
    expected = by_hand(steered(kind, scale=None), kind, images(*size), coarse)
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize('kind', ['vit', 'timm'])
def test_images_are_padded_to_whole_patches_before(kind):
    padding = {} if kind == 'vit' else dict(dynamic_img_pad=True)
    image, padded = images(37, 50), F.pad(images(37, 50), (0, 6, 0, 3))  # to 40 x 56
    output = steered(kind, **padding)(image)[-1]
    expected = by_hand(steered(kind, scale=None, **padding), kind, padded, (24, 32))
    torch.testing.assert_close(output, expected)


@routes
@kinds
def test_at_scale_1_nothing_changes(kind, source, target):
    given, usual = steered(kind, source, target, scale=1), steered(kind, source, target, scale=None)
    assert all(map(torch.equal, given(images()), usual(images())))
    assert (
        given.run_first_pass(images()).streams.keys()
        == usual.run_first_pass(images()).streams.keys()
    )
    assert given.steering_signature == usual.steering_signature


@kinds
def test_it_adds_no_weights(kind):
    given, usual = (steered(kind, scale=scale).state_dict() for scale in (0.5, None))
    assert {n: t.shape for n, t in given.items()} == {n: t.shape for n, t in usual.items()}


@pytest.mark.parametrize('lite', [None, dict(rank=2)])
@routes
@kinds
def test_folded(kind, source, target, lite):
    backbone = steered(kind, source, target, lite=lite)
    expected = backbone(images())
    if lite:
        whole = steered(kind, source, target, scale=None, lite=lite)
        torch.testing.assert_close(expected[-1], by_hand(whole, kind, images(), (32, 48)))
    torch.testing.assert_close(backbone.fold()(images()), expected)


@kinds
def test_lower_outputs_are_those_of_the_second_pass(kind):
    """The passes share no block."""
    backbone = steered(kind, 'last', 'middle', out_indices=[0, -1])
    lower, upper = backbone(images())
    alone = tuned(kind, None, out_indices=[0])(images())[0]
    torch.testing.assert_close(lower, alone, rtol=0, atol=0)
    torch.testing.assert_close(upper, steered(kind, 'last', 'middle')(images())[-1])


@routes
@kinds
def test_a_first_pass_that_is_handed_over_does_not_run_again(kind, source, target, monkeypatch):
    backbone = steered(kind, source, target)
    expected, first = backbone(images()), backbone.run_first_pass(images())
    assert first.scale == 0.5 and set(first.streams) == {backbone.route.feedback_from - 1}
    assert backbone.needs_image
    ran, run_block = [], backbone.run_block
    monkeypatch.setattr(
        backbone, 'run_block', lambda n, *rest, **kw: ran.append(n) or run_block(n, *rest, **kw)
    )
    with backbone.using(first):
        assert all(map(torch.equal, backbone(images()), expected))
    assert ran == list(range(backbone.depth))


@kinds
def test_a_first_pass_on_disk(kind, tmp_path):
    backbone, image = steered(kind).float(), images().float()
    with torch.no_grad():
        expected = backbone(image)
        write(tmp_path / 'cache', 2, [(image, backbone.run_first_pass(image))], 'float32', True)
    first = replace(FirstPassCache(tmp_path / 'cache').read([1, 0]), images=image[[1, 0]])
    with torch.no_grad(), backbone.using(first):
        torch.testing.assert_close(backbone(image[[1, 0]]), tuple(o[[1, 0]] for o in expected))
    for scale, own in ((0.75, '0.75'), (None, '1')):
        with pytest.raises(
            ValueError,
            match=f'ran on images at scale 0.5, but this backbone has first_pass.scale={own}: ',
        ):
            steered(kind, scale=scale).using(first).__enter__()


@kinds
def test_a_whole_first_pass_is_none_of_a_coarse_one(kind):
    first = steered(kind, scale=None).run_first_pass(images())
    with pytest.raises(ValueError, match=r'at scale 1, but this backbone has first_pass.scale=0.5'):
        steered(kind).using(first).__enter__()


@kinds
def test_a_training_step_changes_only_the_top_down_module(kind):
    backbone = steered(kind).train()
    before = copy.deepcopy(backbone.state_dict())
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=0.01, weight_decay=0.1)
    backbone(images())[-1].square().sum().backward()
    optimizer.step()
    changed = {n for n, t in backbone.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == {n for n, _ in backbone.named_parameters() if n.startswith('topdown.')}


@pytest.mark.parametrize('kind', [*TOKENS, 'stages'])
def test_with_a_method_that_tunes_the_backbone(kind):
    """LoRA changes both passes, and the values of the resized signal."""
    lora = dict(type='toast_mm.LoRA', rank=2)
    arguments = dict(feedback_from='last')
    given = tuned(kind, lora, first_pass=dict(scale=0.5), **arguments)
    whole = tuned(kind, lora, **arguments)
    output, expected = given(images())[-1], by_hand(whole, kind, images(), (32, 48))
    torch.testing.assert_close(output, expected)
    trained = [p for p in given.parameters() if p.requires_grad]
    others = [p for p in whole.parameters() if p.requires_grad]
    assert len(trained) > len([*given.topdown.parameters()])
    torch.testing.assert_close(
        torch.autograd.grad(output.square().sum(), trained),
        torch.autograd.grad(expected.square().sum(), others),
    )


@pytest.mark.filterwarnings('ignore:None of the inputs have requires_grad')  # the first pass
@pytest.mark.parametrize('use_reentrant', [True, False])
@pytest.mark.parametrize('kind', TOKENS)
def test_activation_checkpointing(kind, use_reentrant):
    backbone = steered(kind).train()
    backbone(images())[-1].square().sum().backward()
    expected = [p.grad for p in backbone.topdown.parameters()]
    backbone.zero_grad()
    for block in backbone.layers if kind == 'vit' else backbone.model.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=use_reentrant)
    backbone(images())[-1].square().sum().backward()
    torch.testing.assert_close([p.grad for p in backbone.topdown.parameters()], expected)


@pytest.mark.parametrize('autocast', [True, False])
@pytest.mark.parametrize('kind', [*TOKENS, 'convnext', 'stages', 'swin'])
def test_half_precision(kind, autocast):
    backbone, image = steered(kind).float(), images().float()
    expected = backbone(image)[-1]
    if autocast:
        with torch.autocast('cpu', torch.bfloat16):
            output = backbone.train()(image)[-1]
            output.float().square().sum().backward()
    else:
        output = backbone.bfloat16()(image.bfloat16())[-1]
    assert (output - expected).norm() < 0.03 * expected.norm()


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['vit', 'eva', 'convnext'])
def test_compiled(kind):
    backbone = steered(kind)
    expected = backbone(images())
    compiled = torch.compile(backbone, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(images()), expected)


@kinds
def test_the_record(kind):
    backbone = steered(kind, 'last', 'middle')
    with torch.no_grad(), backbone.recording() as record:
        backbone(images())
    assert set(record.first.streams) == set(record.second) == set(range(-1, backbone.depth))
    assert set(record.signals) == set(record.inputs) == set(backbone.route.receivers)
    for block, signal in record.signals.items():
        assert backbone.signal_ratio(block, record.inputs[block], signal) > 0
    finished = backbone.finish_first_pass(record)
    expected = tuned(kind, None)(resized(images(), (32, 48)))
    torch.testing.assert_close(finished[-1], expected[-1])


def test_a_ratio_of_norms_does_not_depend_on_the_grid():
    signal, features = torch.full((1, 2, 2, 2), 3.0), torch.full((1, 2, 4, 6), 2.0)
    assert norm_ratio(signal, features) == pytest.approx(1.5)


@torch.no_grad()
@kinds
def test_maps_of_where_it_looks(kind):
    backbone = steered(kind, 1, 0)
    maps = attention_maps(backbone, images(), 0)[0]
    stream, coarse = backbone.embed(resized(images(), (32, 48)))
    leaving = backbone.run_block(0, stream, **backbone.shared_arguments(coarse))
    z, _ = backbone.read_out(leaving)
    mask = F.cosine_similarity(z, backbone.topdown.selection.task_embedding, dim=-1).clamp(min=0)
    if kind in TOKENS:
        mask = mask[:, TOKENS[kind] :].unflatten(1, coarse)
        # A patch of the coarse image is spread over four.
        first = resized(backbone.attention(0, stream, coarse), (8, 12)) / 4
        whole = backbone.embed(images())
        torch.testing.assert_close(maps.second, backbone.attention(0, *whole))
    else:
        first = resized(leaving.norm(dim=1, keepdim=True), maps.second.shape[-2:])
    torch.testing.assert_close(maps.mask, mask)
    torch.testing.assert_close(maps.first, first)
    assert maps.difference.shape == maps.second.shape


@pytest.mark.parametrize(
    ('first_pass', 'error', 'message'),
    [
        (dict(scale=1.5), ValueError, r'first_pass.scale=1.5 must be above 0 and at most 1'),
        (dict(scale=0), ValueError, r'first_pass.scale=0 must be above 0'),
        (dict(scale=-0.5), ValueError, r'first_pass.scale=-0.5 must be above 0'),
        (dict(scale=float('nan')), ValueError, r'first_pass.scale=nan must be above 0'),
        (dict(scale='half'), TypeError, r"first_pass.scale='half' must be a number"),
        (dict(scale=True), TypeError, r'first_pass.scale=True must be a number'),
        (dict(size=0.5), ValueError, r"first_pass={'size': 0.5}: size is unknown; there is scale"),
        (0.5, TypeError, r'first_pass=0.5 must be Mapping'),
    ],
)
@pytest.mark.parametrize('kind', ['vit', 'timm', 'convnext', 'stages'])
def test_wrong_settings(kind, first_pass, error, message):
    with pytest.raises(error, match=message):
        KINDS[kind][0](**KINDS[kind][2], first_pass=first_pass)


@pytest.mark.parametrize('kind', TOKENS)
def test_less_than_a_patch_of_the_images_that_it_is_built_for(kind):
    with pytest.raises(
        ValueError,
        match=r'first_pass.scale=0.2 leaves 6 x 6 of 32 x 32 pixels, but one patch .* has 8 x 8',
    ):
        KINDS[kind][0](**KINDS[kind][2], first_pass=dict(scale=0.2))


def test_less_than_a_patch_of_other_images():
    backbone = TOASTViT(**VIT, first_pass=dict(scale=0.25))
    with pytest.raises(ValueError, match=r'leaves 4 x 8 of 16 x 32 pixels'):
        backbone(torch.rand(1, 3, 16, 32))


@pytest.mark.parametrize(('read', 'least'), [('last', 16), ('middle', 4), (1, 2)])
def test_less_than_a_pixel_of_the_map_that_is_read(read, least):
    backbone = TOASTConvNeXt(
        arch=KINDS['convnext'][2]['arch'],
        stem_patch_size=2,
        feedback_from=read,
        first_pass=dict(scale=0.1),
    ).eval()
    side = 10 * least
    assert backbone(torch.rand(1, 3, side, 160))[-1].shape == (1, 12)
    with pytest.raises(ValueError, match=rf'leaves {least - 1} x 16 of {side - 10} x 160 pixels'):
        backbone(torch.rand(1, 3, side - 10, 160))


def test_without_feedback_there_is_none():
    backbone = TOASTTimm(**TIMM, feedback_from=None, first_pass=dict(scale=0.5))
    assert backbone.coarse is None and backbone.first_scale == 1


def test_patches_that_overlap():
    """The coarse image is a multiple of the stride, at which patches are cut out."""
    sizes = dict(VIT, patch_cfg=dict(stride=4))
    backbone = TOASTViT(**sizes, first_pass=dict(scale=0.5))
    assert backbone.coarse.size((32, 24)) == (16, 12)
    assert backbone(torch.rand(1, 3, 32, 24))[0].shape == (1, 24)


def test_models_with_one_rotary_embedding_for_each_block():
    arguments = dict(model_name='vit_small_patch16_rope_mixed_224', **SMALL)
    whole, given = (
        TOASTTimm(**arguments, first_pass=first_pass).double().eval()
        for first_pass in (None, dict(scale=0.5))
    )
    given.load_state_dict(whole.state_dict())
    expected = by_hand(whole, 'eva', images(), (32, 48))  # one extra token as well
    torch.testing.assert_close(given(images())[-1], expected)


def test_sliding_windows():
    """Every window has its own coarse first pass."""
    torch.manual_seed(0)
    backbone = dict(VIT, type=TOASTViT, out_type='featmap', first_pass=dict(scale=0.5))
    head = dict(
        type='mmseg.FCNHead', in_channels=24, channels=24, num_classes=3, num_convs=0, kernel_size=1
    )
    window = dict(mode='slide', crop_size=(32, 32), stride=(16, 16))
    model = MODELS.build(
        dict(
            type='mmseg.EncoderDecoder',
            backbone=backbone,
            decode_head=dict(head, concat_input=False, align_corners=False),
            test_cfg=ConfigDict(window),
        )
    )
    model = model.double().eval()
    scatter(model.backbone)
    image, corners = images(40, 48), [(0, 0), (0, 16), (8, 0), (8, 16)]
    whole = tuned('vit', None, feedback_from='last', out_type='featmap')
    total, seen = torch.zeros(2, 3, 40, 48, dtype=torch.double), torch.zeros(40, 48)
    with torch.no_grad():
        for top, left in corners:
            place = (..., slice(top, top + 32), slice(left, left + 32))
            features = by_hand(whole, 'vit', image[place], (16, 16))
            scores = model.decode_head([features])
            total[place] += F.interpolate(scores, (32, 32), mode='bilinear')
            seen[place] += 1
        meta = dict(ori_shape=(40, 48), img_shape=(40, 48), pad_shape=(40, 48))
        found = model.inference(image, [meta] * 2)
    torch.testing.assert_close(found, total / seen)


@pytest.mark.parametrize(
    ('there', 'here', 'says'), [(0.5, None, '0.5.* has .*1.0'), (None, 0.5, '1.0.* has .*0.5')]
)
def test_task_files_of_another_scale_are_refused(there, here, says, tmp_path):
    torch.save(plain('vit').state_dict(), tmp_path / 'base.pth')
    base = dict(type='Pretrained', checkpoint=str(tmp_path / 'base.pth'))
    source = steered('vit', scale=there, init_cfg=base)
    source.init_weights()
    held, names = dict(source.state_dict()), frozen_base(source)
    leave_out_base(held, names, make_record(source, names), '')
    twin = steered('vit', scale=there)
    twin.load_state_dict(dict(held))
    assert torch.equal(twin(images())[0], source(images())[0])
    with pytest.raises(CheckpointError, match=f'is of a backbone with first_pass_scale={says}'):
        steered('vit', scale=here).load_state_dict(held)


def test_the_keys_of_caches_know_the_scale():
    """At scale 1 the key is the one without the argument."""
    keys = {}
    for scale in (None, 1, 0.5, 0.75):
        backbone = steered('vit', scale=scale)
        config = dict(VIT) if scale is None else dict(VIT, first_pass=dict(scale=scale))
        keys[scale] = cache_key(backbone, config, {}, [], [], 'float16')
    assert keys[None] == keys[1]
    assert len(set(keys.values())) == 3
