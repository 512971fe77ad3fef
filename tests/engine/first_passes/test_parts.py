"""Parts of cached first passes are cut out of the maps of whole images."""

from dataclasses import replace

import pytest
import torch
from small_backbones import tuned

from toast_mm.engine.first_passes import PartsOfFirstPass
from toast_mm.models import TOASTConvNeXt, TOASTTimm, TOASTViT

COARSE = dict(first_pass=dict(scale=0.5))
ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
# An image of 64 x 64 at scale 1/2 has a grid of 4 x 4.
BACKBONES = {
    'tokens': lambda: TOASTViT(arch=ARCH, img_size=64, patch_size=8, **COARSE),
    'maps': lambda: TOASTConvNeXt(
        arch=dict(depths=[1, 1], channels=[8, 16]), stem_patch_size=4, **COARSE
    ),
    'tokens of timm': lambda: TOASTTimm(
        'vit_tiny_patch16_224',
        img_size=64,
        patch_size=8,
        embed_dim=16,
        depth=2,
        num_heads=2,
        reg_tokens=2,
        **COARSE,
    ),
}


def view(left, top, width, height, shown_width, shown_height):
    """View of a box of an image of 64 x 64, shown at some size; negative sides are flipped."""
    return (
        (2 * width / 64 / shown_width, 0, 2 * left / 64 - 1),
        (0, 2 * height / 64 / shown_height, 2 * top / 64 - 1),
    )


@pytest.fixture(params=BACKBONES)
def backbone(request):
    torch.manual_seed(0)
    backbone = BACKBONES[request.param]()
    backbone.init_weights()
    return backbone


@pytest.fixture
def whole(backbone):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    first = backbone.run_first_pass(images)
    return replace(first, images=None)


def maps(backbone, first):
    """The stream of a first pass as a map, and its extra tokens."""
    (stream,) = first.streams.values()
    if backbone.tokens is None:
        return stream, None
    extra = backbone.tokens.extra
    return stream[:, extra:].transpose(1, 2).unflatten(2, first.context), stream[:, :extra]


def parts(backbone, whole, views, height, width, size=(64, 64)):
    images = torch.rand(len(views), 3, height, width)
    first = PartsOfFirstPass(backbone, size)(whole, views, images)
    assert first.belongs_to(images) and first.scale == 0.5
    exact = backbone.run_first_pass(images)
    assert first.sizes == exact.sizes and first.context == exact.context
    assert [s.shape for s in first.streams.values()] == [s.shape for s in exact.streams.values()]
    with backbone.using(first):
        assert backbone(images)[-1].isfinite().all()
    return first


def test_boxes_are_cut_out(backbone, whole):
    everything, extra = maps(backbone, whole)
    assert everything.shape[-2:] == (4, 4)
    right, lower_left = view(32, 0, 32, 32, 32, 32), view(0, 32, 32, 32, 32, 32)
    cut, kept = maps(backbone, parts(backbone, whole, [right, lower_left], 32, 32))
    expected = torch.stack([everything[0, :, :2, 2:], everything[1, :, 2:, :2]])
    torch.testing.assert_close(cut, expected)
    if extra is not None:
        assert torch.equal(kept, extra)


def test_whole_images_are_as_they_were(backbone, whole):
    same = view(0, 0, 64, 64, 64, 64)
    cut, _ = maps(backbone, parts(backbone, whole, [same, same], 64, 64))
    torch.testing.assert_close(cut, maps(backbone, whole)[0])


def test_flipped_images(backbone, whole):
    both = [view(64, 0, -64, 64, 64, 64), view(0, 64, 64, -64, 64, 64)]
    cut, _ = maps(backbone, parts(backbone, whole, both, 64, 64))
    everything, _ = maps(backbone, whole)
    torch.testing.assert_close(cut, torch.stack([everything[0].flip(-1), everything[1].flip(-2)]))


@pytest.mark.parametrize('kind', ['stages', 'swin', 'eva', 'batch norm'])
def test_flipped_images_of_other_families(kind):
    backbone = tuned(kind, None, feedback_from='middle', **COARSE).float()
    generator = torch.Generator().manual_seed(0)
    whole = replace(
        backbone.run_first_pass(torch.rand(2, 3, 64, 96, generator=generator)), images=None
    )
    same, flipped = view(0, 0, 64, 64, 96, 64), view(64, 64, -64, -64, 96, 64)
    cut, _ = maps(backbone, parts(backbone, whole, [same, flipped], 64, 96, size=(64, 96)))
    everything, _ = maps(backbone, whole)
    assert everything.shape[-1] > 1
    torch.testing.assert_close(cut, torch.stack([everything[0], everything[1].flip(-1, -2)]))


def test_enlarged_box_is_interpolated(backbone, whole):
    # Columns 16 to 48, enlarged twice: new places are at 1/4 and 3/4 between the old ones.
    box = view(16, 0, 32, 64, 64, 64)
    cut, _ = maps(backbone, parts(backbone, whole, [box, box], 64, 64))
    old, _ = maps(backbone, whole)
    expected = [
        0.25 * old[..., 0] + 0.75 * old[..., 1],
        0.75 * old[..., 1] + 0.25 * old[..., 2],
        0.25 * old[..., 1] + 0.75 * old[..., 2],
        0.75 * old[..., 2] + 0.25 * old[..., 3],
    ]
    torch.testing.assert_close(cut, torch.stack(expected, dim=-1))


def test_border_goes_on_beyond_the_image(backbone, whole):
    outside = view(-64, 0, 64, 64, 64, 64)
    cut, _ = maps(backbone, parts(backbone, whole, [outside, outside], 64, 64))
    torch.testing.assert_close(cut, maps(backbone, whole)[0][..., :1].expand_as(cut))


def test_padding_to_whole_patches_counts():
    torch.manual_seed(0)
    backbone = BACKBONES['tokens']()
    backbone.init_weights()
    # Images of 60 x 64 and crops of 28 x 32 are padded below, to 64 x 64 and 32 x 32.
    first = replace(backbone.run_first_pass(torch.rand(1, 3, 60, 64)), images=None)
    crop = ((2 / 64, 0, 0), (0, 2 / 60, 32 * 2 / 60 - 1))  # the lower right, from (32, 32)
    cut, _ = maps(backbone, parts(backbone, first, [crop], 28, 32, size=(60, 64)))
    torch.testing.assert_close(cut, maps(backbone, first)[0][..., 2:, 2:])


def test_one_pass_per_size_tells_the_sizes(backbone, whole):
    calls, run = [], backbone.run_first_pass
    backbone.run_first_pass = lambda images: calls.append(len(images)) or run(images)
    take, same = PartsOfFirstPass(backbone, (64, 64)), view(0, 0, 64, 64, 64, 64)
    for _ in range(3):
        take(whole, [same, same], torch.rand(2, 3, 64, 64))
    take(whole, [same, same], torch.rand(2, 3, 32, 64))
    assert calls == [1, 1]
