"""A forward with a given first pass, against one that runs its own; other images are errors."""

from contextlib import nullcontext

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
    """A first pass as read from a cache."""
    first.streams.pop(-1, None)
    return first


@pytest.mark.parametrize('name', SHAPES)
@pytest.mark.parametrize(('source', 'target'), ROUTES)
@pytest.mark.parametrize('training', [True, False])
def test_outputs_and_gradients(name, source, target, training):
    backbone = make(name, source, target).train(training)
    image, results = images(name), []
    first = without_image(backbone.run_first_pass(image))
    for context in (nullcontext(), backbone.using(first)):
        torch.manual_seed(5)  # of drop path
        with context:
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
        first.images = torch.zeros(
            2, 3, 1, 1, dtype=torch.double
        )  # of the data that a cache serves
        with backbone.using(first):
            expected = backbone(first.images)
        torch.testing.assert_close(expected, backbone(images(name)))


@pytest.mark.parametrize('name', SHAPES)
@pytest.mark.parametrize('source', ['last', None])
def test_it_is_used_as_long_as_it_is_handed_over(name, source):
    backbone = make(name, source).eval()
    image, other = images(name), images(name, seed=2)
    expected, of_other = backbone(image), backbone(other)
    first = without_image(backbone.run_first_pass(image))
    calls = count_blocks(backbone)
    with backbone.using(first):
        for same in (image, image.clone()):  # as a data preprocessor gives them a second time
            torch.testing.assert_close(backbone(same), expected)
    assert len(calls) == (8 if source else 0)
    torch.testing.assert_close(backbone(other), of_other)


def count_blocks(backbone):
    calls = []
    vit = hasattr(backbone, 'layers')
    for layer in backbone.layers if vit else [stage[0] for stage in backbone.stages]:
        layer.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize('name', SHAPES)
@pytest.mark.parametrize('source', ['last', None])
@pytest.mark.parametrize(
    'other',
    [
        lambda image: image.flip(-1),  # a view of test-time augmentation
        lambda image: image[..., :8],  # a sliding window
        lambda image: image[:1],
        lambda image: image.float(),
        lambda image: image.mul_(0.5),  # the same tensor, with other content
    ],
)
def test_other_images_are_an_error(name, source, other):
    backbone = make(name, source).eval()
    image = images(name)
    with (
        backbone.using(backbone.run_first_pass(image)),
        pytest.raises(ValueError, match=r'these images \(.*\) are not those that the first pass'),
    ):
        backbone(other(image))
    torch.testing.assert_close(backbone(image), make(name, source).eval()(image))


@pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt])
def test_an_exception_ends_it(error):
    backbone = make('vit').eval()
    with pytest.raises(error), backbone.using(backbone.run_first_pass(images('vit'))):
        raise error
    other = images('vit', seed=2)
    torch.testing.assert_close(backbone(other), make('vit').eval()(other))


def test_nested():
    backbone = make('vit').eval()
    one, other = images('vit'), images('vit', seed=2)
    expected = backbone(one), backbone(other)
    with backbone.using(backbone.run_first_pass(one)):
        with backbone.using(backbone.run_first_pass(other)):
            torch.testing.assert_close(backbone(other), expected[1])
        torch.testing.assert_close(backbone(one), expected[0])


@pytest.mark.parametrize(
    ('source', 'target', 'message'),
    [
        ('middle', 'first', r'holds the streams of blocks \[-1, 3\].* of another route'),
        ('last', 'middle', 'of another route'),
        (None, 'first', 'of another route'),
    ],
)
def test_of_another_route(source, target, message):
    first = make('vit', out_indices=[3]).run_first_pass(images('vit'))
    with pytest.raises(ValueError, match=message):
        make('vit', source, target, out_indices=[3]).using(first).__enter__()


def test_of_no_images():
    backbone = make('vit')
    first = backbone.run_first_pass(images('vit'))
    first.images = None
    with pytest.raises(ValueError, match='does not say which images it belongs to'):
        backbone.using(first).__enter__()


@pytest.mark.slow
def test_compiled():
    backbone = make('vit').eval()
    image, other = images('vit'), images('vit', seed=2)
    expected = backbone(image)
    compiled = torch.compile(backbone, fullgraph=True, backend='aot_eager')
    for _ in range(2):
        with backbone.using(without_image(backbone.run_first_pass(image))):
            torch.testing.assert_close(compiled(image), expected)
    breaking = torch.compile(backbone, backend='aot_eager')
    with backbone.using(without_image(backbone.run_first_pass(image))):
        torch.testing.assert_close(breaking(image.clone()), expected)
        with pytest.raises(ValueError, match='are not those that the first pass'):
            breaking(other)


def test_outputs_of_the_first_pass_alone_need_its_streams():
    """Pre-tuning on both passes needs the streams of a given first pass."""
    backbone = make('vit', out_indices=(0, 3)).eval()
    image = images('vit')
    with backbone.using(backbone.run_first_pass(image)), backbone.recording() as record:
        backbone(image)
    with pytest.raises(ValueError, match=r'without the outputs of blocks \[0\]'):
        backbone.finish_first_pass(record)
