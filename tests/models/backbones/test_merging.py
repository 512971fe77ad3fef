"""A first pass that merges tokens: by hand, image by image, with lists of members."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from small_backbones import KINDS, TIMM, VIT, plain, tuned
from torch.utils.checkpoint import checkpoint

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.adapter import frozen_base, leave_out_base, make_record
from toast_mm.engine.first_passes import cache_key
from toast_mm.engine.first_passes.cache import FirstPassCache, write
from toast_mm.models import TOASTConvNeXt, TOASTTimm, TOASTViT
from toast_mm.models.backbones.merging import MergedTokens, spread
from toast_mm.visualization import attention_maps

EXTRA = {'vit': 1, 'timm': 5}
ROUTES = [('last', 'first'), (2, 'first'), ('last', 2)]
kinds = pytest.mark.parametrize('kind', EXTRA)
routes = pytest.mark.parametrize(('source', 'target'), ROUTES)


def steered(kind, source='last', target='first', share=0.25, **arguments):
    first_pass = None if share is None else dict(merge=share)
    return tuned(
        kind, None, feedback_from=source, feedback_to=target, first_pass=first_pass, **arguments
    )


def images(*size, seed=7):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, *(size or (32, 48)), dtype=torch.double, generator=generator)


def merged_by_hand(groups, fewer):
    """Merge ``fewer`` of the groups at even places; a group is a mean and its members."""
    pairs = []
    for place in range(0, len(groups), 2):
        similarities = {
            other: F.cosine_similarity(groups[place][0].float(), groups[other][0].float(), dim=0)
            for other in range(1, len(groups), 2)
        }
        best = max(similarities, key=similarities.get)
        pairs.append((similarities[best].item(), place, best))
    groups = list(groups)
    for _, place, best in sorted(pairs, reverse=True)[:fewer]:
        (one, ours), (other, theirs) = groups[place], groups[best]
        total = one * len(ours) + other * len(theirs)
        groups[best] = total / len(ours + theirs), ours + theirs
        groups[place] = None
    return [group for group in groups if group is not None]


def first_pass_by_hand(backbone, kind, image, share):
    """The stream that is read, with a token for every patch."""
    extra, streams = EXTRA[kind], []
    for one in image.split(1):
        stream, context = backbone.embed(one)
        arguments = backbone.shared_arguments(context)
        groups = [(token, [n]) for n, token in enumerate(stream[0, extra:])]
        patches = len(groups)
        wanted = round(share * patches)
        front = stream[0, :extra]
        for block in range(backbone.route.feedback_from):
            if block and len(groups) > wanted:
                fewer = min(len(groups) - wanted, (len(groups) + 1) // 2)
                groups = merged_by_hand(groups, fewer)
            tokens = torch.cat([front, torch.stack([mean for mean, _ in groups])])
            tokens = backbone.run_block(block, tokens[None], **arguments)[0]
            front = tokens[:extra]
            groups = [(t, members) for t, (_, members) in zip(tokens[extra:], groups, strict=True)]
        whole = [None] * patches
        for mean, members in groups:
            for member in members:
                whole[member] = mean
        streams.append(torch.cat([front, torch.stack(whole)]))
    return torch.stack(streams)


def by_hand(kind, source, target, share, image, **arguments):
    """A full first pass is handed over, in which only the stream that is read is another."""
    backbone = steered(kind, source, target, share=None, **arguments)
    first, read = backbone.run_first_pass(image), backbone.route.feedback_from - 1
    first.streams[read] = first_pass_by_hand(backbone, kind, image, share)
    with backbone.using(first):
        return backbone(image)


def test_each_image_merges_its_most_similar_pair():
    """Patches 0, 2 and 4 look for the closest of 1, 3 and 5."""
    one, two, three = torch.eye(3).double()
    tokens = torch.stack(
        [
            torch.stack([9 * one, one, two, three, two + three, 3 * one + 2 * two, one + two]),
            torch.stack([9 * one, one, two, three, 5 * one, two + 0.1 * one, 2 * one + three]),
        ]
    )
    merged = MergedTokens(tokens, extra=1, share=5 / 6)
    merged.merge(tokens)
    assert merged.place.tolist() == [[0, 1, 2, 3, 4, 5, 5], [0, 3, 1, 2, 3, 4, 5]]
    left = [tokens[0, [0, 1, 2, 3, 4, 5]], tokens[1, [0, 2, 3, 4, 5, 6]]]
    left[0][5] = 2 * one + 1.5 * two
    left[1][3] = 3 * one
    torch.testing.assert_close(merged.tokens, torch.stack(left))
    torch.testing.assert_close(spread(merged.tokens, merged.place)[1, [1, 4]], left[1][[3, 3]])


def test_means_weight_every_patch_alike():
    """Three equal patches and another one, in two steps."""
    tokens = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.1], [1.0, 0.2]]]).double()
    merged = MergedTokens(tokens, extra=0, share=0.25)
    merged.merge(tokens)
    assert merged.tokens.shape == (1, 2, 2)
    merged.merge(merged.tokens)
    torch.testing.assert_close(merged.tokens, tokens.mean(1, keepdim=True))
    assert merged.place.tolist() == [[0] * 4]
    merged.merge(merged.tokens)  # nothing is left to merge
    assert merged.tokens.shape == (1, 1, 2)


@pytest.mark.parametrize('share', [0.25, 0.6])
@routes
@kinds
def test_both_passes(kind, source, target, share):
    backbone = steered(kind, source, target, share)
    expected = by_hand(kind, source, target, share, images())
    torch.testing.assert_close(backbone(images()), expected)
    whole = steered(kind, source, target, share=None)(images())
    assert not torch.allclose(whole[-1], expected[-1], rtol=1e-3)


@kinds
def test_odd_sizes_and_few_patches(kind):
    for size in ((40, 24), (8, 8), (8, 16)):
        expected = by_hand(kind, 'last', 'first', 0.3, images(*size)) if size != (8, 8) else None
        found = steered(kind, share=0.3)(images(*size))
        if expected is None:  # a single patch
            expected = steered(kind, share=None)(images(*size))
        torch.testing.assert_close(found, expected)


@routes
@kinds
def test_at_share_1_nothing_changes(kind, source, target):
    given, usual = steered(kind, source, target, share=1), steered(kind, source, target, share=None)
    assert all(map(torch.equal, given(images()), usual(images())))
    assert given.steering_signature == usual.steering_signature and given.merging is None


@pytest.mark.parametrize('lite', [None, dict(rank=2)])
@routes
@kinds
def test_folded(kind, source, target, lite):
    backbone = steered(kind, source, target, lite=lite)
    expected = by_hand(kind, source, target, 0.25, images(), lite=lite)
    torch.testing.assert_close(backbone(images()), expected)
    torch.testing.assert_close(backbone.fold()(images()), expected)


@kinds
def test_lower_outputs_are_those_of_the_second_pass(kind):
    lower, upper = steered(kind, 'last', 'middle', out_indices=[0, -1])(images())
    torch.testing.assert_close(lower, tuned(kind, None, out_indices=[0])(images())[0])
    torch.testing.assert_close(upper, steered(kind, 'last', 'middle')(images())[-1])


@kinds
def test_a_first_pass_on_disk(kind, tmp_path):
    backbone, image = steered(kind).float(), images().float()
    with torch.no_grad():
        expected = backbone(image)
        write(tmp_path / 'cache', 2, [(image, backbone.run_first_pass(image))], 'float32', True)
    cache = FirstPassCache(tmp_path / 'cache')
    patches = 4 * 6
    assert cache.arrays['2'].shape == (2, EXTRA[kind] + patches // 4, 24)  # merged
    assert cache.arrays['place'].shape == (2, EXTRA[kind] + patches)
    first = replace(cache.read([1, 0]), images=image[[1, 0]])
    with torch.no_grad(), backbone.using(first):
        torch.testing.assert_close(backbone(image[[1, 0]]), tuple(o[[1, 0]] for o in expected))
        with backbone.recording() as record:
            backbone(image[[1, 0]])
    assert record.z.shape == (2, EXTRA[kind] + patches, 24)
    for share, own in ((0.5, '0.5'), (None, '1')):
        with pytest.raises(
            ValueError,
            match=f'merged its patches to 0.25, but this backbone has first_pass.merge={own}: ',
        ):
            steered(kind, share=share).using(first).__enter__()


@routes
@kinds
def test_the_record_has_a_token_for_every_patch(kind, source, target):
    backbone = steered(kind, source, target)
    with backbone.recording() as record:
        outputs = backbone(images())
    torch.testing.assert_close(outputs, backbone(images()))
    number = EXTRA[kind] + 4 * 6
    read = backbone.route.feedback_from
    assert {
        block: len(stream[0]) for block, stream in record.first.streams.items()
    } == dict.fromkeys(range(-1, read), number)
    expected = first_pass_by_hand(backbone, kind, images(), 0.25)
    torch.testing.assert_close(record.first.streams[read - 1], expected)
    assert all(signal.shape[1] == number for signal in record.signals.values())


@torch.no_grad()
@kinds
def test_maps_of_where_it_looks(kind):
    backbone = steered(kind)
    found = attention_maps(backbone, images(), 1)[1]
    z, _ = backbone.read_out(first_pass_by_hand(backbone, kind, images(), 0.25))
    mask = F.cosine_similarity(z, backbone.topdown.selection.task_embedding, dim=-1).clamp(min=0)
    torch.testing.assert_close(found.mask, mask[:, EXTRA[kind] :].unflatten(1, (4, 6)))
    assert found.first.shape[-2:] == found.second.shape[-2:] == (4, 6)


@pytest.mark.filterwarnings('ignore:None of the inputs have requires_grad')  # the first pass
@pytest.mark.parametrize('use_reentrant', [True, False])
@kinds
def test_activation_checkpointing(kind, use_reentrant):
    backbone = steered(kind).train()
    backbone(images())[-1].square().sum().backward()
    expected = [p.grad for p in backbone.topdown.parameters()]
    backbone.zero_grad()
    for block in backbone.layers if kind == 'vit' else backbone.model.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=use_reentrant)
    backbone(images())[-1].square().sum().backward()
    torch.testing.assert_close([p.grad for p in backbone.topdown.parameters()], expected)


@pytest.mark.slow
def test_compiled():
    backbone = steered('vit')
    expected = backbone(images())
    compiled = torch.compile(backbone, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(images()), expected)


@kinds
def test_a_method_that_tunes_the_first_pass_gets_gradients(kind):
    backbone = tuned(
        kind, dict(type='toast_mm.LoRA'), feedback_from='last', first_pass=dict(merge=0.25)
    ).train()
    backbone(images())[0].square().sum().backward()
    gradients = {
        name: parameter.grad is not None and parameter.grad.abs().sum() > 0
        for name, parameter in backbone.named_parameters()
        if parameter.requires_grad
    }
    assert len(gradients) > 8 and all(gradients.values())


@kinds
def test_half_precision(kind):
    backbone = steered(kind).float()
    expected = backbone(images().float())[0]
    with torch.autocast('cpu', torch.bfloat16):
        found = backbone(images().float())[0]
    assert found.isfinite().all() and (found - expected).norm() < 0.3 * expected.norm()


@pytest.mark.parametrize(
    ('first_pass', 'error', 'message'),
    [
        (dict(merge=0), ValueError, 'first_pass.merge=0 must be above 0 and at most 1'),
        (dict(merge=1.5), ValueError, 'first_pass.merge=1.5 must be above 0'),
        (dict(merge=float('nan')), ValueError, 'first_pass.merge=nan must be above 0'),
        (dict(merge='few'), TypeError, "first_pass.merge='few' must be a number"),
        (dict(merge=True), TypeError, 'first_pass.merge=True must be a number'),
        (dict(merge=0.5, scale=0.5), ValueError, 'set scale or merge, not both'),
        (dict(merged=0.5), ValueError, 'merged is unknown; there are scale and merge'),
    ],
)
@kinds
def test_wrong_settings(kind, first_pass, error, message):
    with pytest.raises(error, match=message):
        KINDS[kind][0](**KINDS[kind][2], first_pass=first_pass)


def test_one_block_merges_nothing():
    with pytest.raises(ValueError, match='the first pass has one block: use a later feedback_from'):
        TOASTViT(**VIT, feedback_from=1, first_pass=dict(merge=0.5))


def test_maps_are_not_merged():
    with pytest.raises(ValueError, match='tokens can be merged in a Vision Transformer only'):
        TOASTConvNeXt(arch=KINDS['convnext'][2]['arch'], first_pass=dict(merge=0.5))


def test_rotary_embeddings_are_refused():
    with pytest.raises(ValueError, match='eva02_tiny_patch14_224 has rotary embeddings'):
        TOASTTimm(**KINDS['eva'][2], first_pass=dict(merge=0.5))


def test_without_feedback_there_is_none():
    assert TOASTTimm(**TIMM, feedback_from=None, first_pass=dict(merge=0.5)).merging is None


@pytest.mark.parametrize(('there', 'here'), [(0.5, None), (0.5, 0.25), (None, 0.5)])
def test_task_files_of_another_share_are_refused(there, here, tmp_path):
    torch.save(plain('vit').state_dict(), tmp_path / 'base.pth')
    base = dict(type='Pretrained', checkpoint=str(tmp_path / 'base.pth'))
    source = steered('vit', share=there, init_cfg=base)
    source.init_weights()
    held, names = dict(source.state_dict()), frozen_base(source)
    leave_out_base(held, names, make_record(source, names), '')
    twin = steered('vit', share=there)
    twin.load_state_dict(dict(held))
    assert torch.equal(twin(images())[0], source(images())[0])
    with pytest.raises(CheckpointError, match='is of a backbone with first_pass_merge='):
        steered('vit', share=here).load_state_dict(held)


def test_the_keys_of_caches_know_the_share():
    keys = {}
    for share in (None, 1, 0.5, 0.75):
        backbone = steered('vit', share=share)
        config = dict(VIT) if share is None else dict(VIT, first_pass=dict(merge=share))
        keys[share] = cache_key(backbone, config, {}, [], [], 'float16')
    assert keys[None] == keys[1]
    assert len(set(keys.values())) == 3
