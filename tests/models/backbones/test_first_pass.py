"""A forward that is provided with a first pass, against one that runs its own."""

import pytest
import torch

from toast_mm.models import TOASTConvNeXt, TOASTViT

ROUTES = [('last', 'first'), ('middle', 'first'), ('last', 'middle'), (3, 1), (None, 'first')]
SHAPES = dict(
    vit=dict(
        cls=TOASTViT,
        arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32),
        img_size=16,
        patch_size=8,
        out_type='featmap',
        with_cls_token=False,
    ),
    convnext=dict(
        cls=TOASTConvNeXt,
        arch=dict(depths=[1, 1, 1, 1], channels=[4, 6, 8, 10]),
        stem_patch_size=2,
        gap_before_final_norm=False,
    ),
)


def make(name, source='last', target='first', out_indices=(0, 2, 3), **kwargs):
    torch.manual_seed(0)
    arguments = dict(SHAPES[name], out_indices=list(out_indices)) | kwargs
    cls = arguments.pop('cls')
    backbone = cls(feedback_from=source, feedback_to=target, drop_path_rate=0.3, **arguments)
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.4)
    return backbone.double()


def images(name, seed=1):
    generator = torch.Generator().manual_seed(seed)
    size = (16, 16) if name == 'vit' else (37, 50)  # no multiple of the stride
    return torch.rand(2, 3, *size, dtype=torch.double, generator=generator)


def without_image(first):
    """As it comes from a cache."""
    first.streams.pop(-1, None)
    return first


@pytest.mark.parametrize('name', SHAPES)
@pytest.mark.parametrize(('source', 'target'), ROUTES)
@pytest.mark.parametrize('training', [True, False])
def test_outputs_and_gradients(name, source, target, training):
    backbone = make(name, source, target).train(training)
    image, results = images(name), []
    for provided in (False, True):
        if provided:
            backbone.provide(without_image(backbone.run_first_pass(image)))
        torch.manual_seed(5)  # of drop path
        outputs = backbone(image)
        gradients = []
        if source is not None:
            tuned = list(backbone.topdown.parameters())
            gradients = torch.autograd.grad(sum(out.sin().sum() for out in outputs), tuned)
        results.append([*outputs, *gradients])
    assert len(results[0]) >= 3
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize('name', SHAPES)
@pytest.mark.parametrize(
    ('source', 'target', 'held', 'needs'),
    [
        ('last', 'first', {3}, True),
        ('middle', 'first', {1}, True),
        ('last', 'middle', {0, 1, 3}, False),  # of block 0 there is an output
        (None, 'first', {0, 2, 3}, False),
    ],
)
def test_holds_what_is_needed_and_no_more(name, source, target, held, needs):
    backbone = make(name, source, target).eval()
    first = without_image(backbone.run_first_pass(images(name)))
    assert set(first.streams) == held
    assert backbone.needs_image is needs
    if not needs:
        backbone.provide(first)
        expected = backbone(torch.zeros(2, 3, 1, 1, dtype=torch.double))
        torch.testing.assert_close(expected, backbone(images(name)))


@pytest.mark.parametrize('name', SHAPES)
def test_it_is_used_once(name):
    backbone = make(name).eval()
    one, other = images(name), images(name, seed=2)
    expected = backbone(other)
    backbone.provide(backbone.run_first_pass(one))
    assert not torch.allclose(backbone(other)[-1], expected[-1])
    torch.testing.assert_close(backbone(other), expected)


def test_another_number_of_images():
    backbone = make('vit')
    backbone.provide(backbone.run_first_pass(images('vit')))
    with pytest.raises(ValueError, match='is not that of these 1 images'):
        backbone(images('vit')[:1])
    assert len(backbone(images('vit')[:1])[0]) == 1  # forgotten


def test_compiled():
    backbone = make('vit').eval()
    image = images('vit')
    expected = backbone(image)
    compiled = torch.compile(backbone, fullgraph=True, backend='aot_eager')
    first = without_image(backbone.run_first_pass(image))
    for _ in range(2):
        backbone.provide(first)
        torch.testing.assert_close(compiled(image), expected)
