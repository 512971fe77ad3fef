"""The losses of pre-tuning, against runs of a plain and of a steered backbone."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.models import VisionTransformer
from mmpretrain.structures import DataSample

from toast_mm.models import PretuneClassifier

ROUTES = [('last', 'first'), ('middle', 'first'), ('last', 'middle'), (3, 1)]
ARCH = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)


def make(
    type_='toast_mm.PretuneClassifier', source='last', target='first', drop_path_rate=0, **kwargs
):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            dict(
                type=type_,
                backbone=dict(
                    type='toast_mm.TOASTViT',
                    arch=ARCH,
                    img_size=16,
                    patch_size=8,
                    feedback_from=source,
                    feedback_to=target,
                    drop_path_rate=drop_path_rate,
                ),
                head=dict(type='VisionTransformerClsHead', num_classes=3, in_channels=16),
                **kwargs,
            )
        )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.double().train()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(4, 3, 16, 16, dtype=torch.double, generator=generator)
    return images, [DataSample().set_gt_label(label) for label in (0, 2, 1, 2)]


def cross_entropy(model, features):
    scores = model.head.layers.head(features[-1])
    return F.cross_entropy(scores, torch.tensor([0, 2, 1, 2]))


def gradients(model, loss):
    tuned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    values = torch.autograd.grad(loss, list(tuned.values()), allow_unused=True)
    return dict(zip(tuned, values, strict=True))


def plain_features(model, images):
    """Features of mmpretrain's ViT with the same weights."""
    vit = VisionTransformer(arch=ARCH, img_size=16, patch_size=8).double()
    vit.eval()  # mmpretrain's returns None
    state = model.backbone.state_dict()
    vit.load_state_dict({name: state[name] for name in vit.state_dict()})
    return vit(images)


@torch.no_grad()
def second_pass(backbone, images):
    """Streams that enter and leave the receiving blocks, step by step."""
    layers, (source, target) = backbone.layers, numbers(backbone.route)
    image_tokens = backbone.embed(images)[0]
    z = image_tokens
    for block in range(source):
        z = layers[block](z)
    hidden = backbone.topdown.selection(backbone.ln1(z) if source == 4 else z)
    signals = {}
    for block in reversed(range(target, source)):
        weights = backbone.topdown.feedback.layers[str(block)]
        hidden = hidden @ weights.descend.weight.T
        signals[block] = hidden @ weights.emit.weight.T
    streams = [image_tokens]
    for block in range(source):
        streams.append(layers[block](streams[block], signals.get(block)))
    return {block: (streams[block], streams[block + 1]) for block in range(target, source)}


def numbers(route):
    return route.feedback_from, route.feedback_to


@pytest.mark.parametrize(('source', 'target'), ROUTES)
def test_variational_loss(source, target, batch):
    model = make(source=source, target=target, variational_weight=0.5)
    losses = model.loss(*batch)
    assert set(losses) == {'loss', 'loss_var'}
    torch.testing.assert_close(losses['loss'], cross_entropy(model, model.backbone(batch[0])))

    expected, wanted = 0, {}
    for block, (into, out) in second_pass(model.backbone, batch[0]).items():
        name = f'backbone.topdown.feedback.layers.{block}.descend.weight'
        error = out @ model.get_parameter(name).detach().T - into
        expected += 0.5 * error.square().sum() / error.numel()
        wanted[name] = 0.5 * 2 / error.numel() * torch.einsum('bno,bni->oi', error, out)
    torch.testing.assert_close(losses['loss_var'].detach(), expected)

    given = gradients(model, losses['loss_var'])
    assert len(wanted) == len(model.backbone.route.receivers)
    for name, gradient in given.items():
        if name in wanted:
            torch.testing.assert_close(gradient, wanted[name])
        else:
            assert gradient is None, name


@pytest.mark.parametrize('drop_path_rate', [0, 0.5])
@pytest.mark.parametrize(('source', 'target'), ROUTES)
def test_mean_of_both_passes(source, target, drop_path_rate, batch):
    """Drop path acts in the second pass alone."""
    model = make(
        source=source,
        target=target,
        drop_path_rate=drop_path_rate,
        variational_weight=0,
        both_passes=True,
    )
    torch.manual_seed(2)
    losses = model.loss(*batch)
    torch.manual_seed(2)
    second = cross_entropy(model, model.backbone(batch[0]))
    first = cross_entropy(model, plain_features(model, batch[0]))
    assert set(losses) == {'loss'}
    torch.testing.assert_close(losses['loss'], (first + second) / 2)
    given = gradients(model, losses['loss'])
    wanted = gradients(model, (first + second) / 2)
    assert len(given) == 2 + 2 + 2 * len(model.backbone.route.receivers)
    for name, gradient in given.items():
        torch.testing.assert_close(gradient, wanted[name])


@pytest.mark.parametrize(
    ('source', 'target', 'expected'),
    [
        ('last', 'first', [0, 1, 2, 3, 0, 1, 2, 3]),
        ('middle', 'first', [0, 1, 0, 1, 2, 3, 2, 3]),  # first pass, second, end of the first
        ('last', 'middle', [0, 1, 2, 3, 2, 3]),  # both passes are the same in 0 and 1
        (3, 1, [0, 1, 2, 1, 2, 3, 3]),
    ],
)
def test_no_block_runs_more_often_than_needed(source, target, expected, batch):
    model = make(source=source, target=target, both_passes=True)
    calls, embedded = [], []
    for block, layer in enumerate(model.backbone.layers):
        layer.register_forward_hook(lambda *args, block=block: calls.append(block))
    model.backbone.patch_embed.register_forward_hook(lambda *args: embedded.append(1))
    model.loss(*batch)
    assert calls == expected
    assert len(embedded) == 1


def test_the_first_pass_goes_through_the_neck(batch):
    model = make(both_passes=True, variational_weight=0)
    model.neck = torch.nn.Module()
    model.neck.forward = lambda features: tuple(2 * feature for feature in features)
    second = cross_entropy(model, [2 * f for f in model.backbone(batch[0])])
    first = cross_entropy(model, [2 * f for f in plain_features(model, batch[0])])
    torch.testing.assert_close(model.loss(*batch)['loss'], (first + second) / 2)


def test_accuracy_is_that_of_the_second_pass(batch):
    results = {}
    for both in (True, False):
        model = make(both_passes=both)
        model.head.cal_acc = True
        results[both] = model.loss(*batch)
    assert results[True]['accuracy_top-1'] == results[False]['accuracy_top-1']
    assert results[True]['loss'] != results[False]['loss']


def test_sum_is_trained_and_each_is_logged(batch):
    model = make(variational_weight=0.2, both_passes=True)
    losses = model.loss(*batch)
    total, logged = model.parse_losses(losses)
    torch.testing.assert_close(total, losses['loss'] + losses['loss_var'])
    assert set(logged) == {'loss', 'loss_var'}
    torch.testing.assert_close(logged['loss_var'], losses['loss_var'])


@pytest.mark.parametrize('kwargs', [dict(both_passes=True), dict()])
def test_nested_recordings_share_one_record(batch, kwargs):
    model = make(**kwargs)
    with model.backbone.recording() as record:
        losses = model.loss(*batch)
    assert set(record.inputs) == {0, 1, 2, 3}
    torch.testing.assert_close(losses, model.loss(*batch))


def test_bfloat16_autocast(batch):
    model = make(both_passes=True).float()
    expected = model.loss(batch[0].float(), batch[1])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model.loss(batch[0].float(), batch[1])
    for name, value in losses.items():
        assert value.dtype == torch.float
        torch.testing.assert_close(value, expected[name], rtol=0.05, atol=0)


def test_nothing_is_computed_at_weight_0(batch, monkeypatch):
    model = make(variational_weight=0)
    plain = make('ImageClassifier')

    def fail(*args):
        raise AssertionError('computed')

    monkeypatch.setattr('toast_mm.models.classifiers.pretune.variational_loss', fail)
    for name in ('recording', 'finish_first_pass'):
        monkeypatch.setattr(type(model.backbone), name, fail)
    losses = model.loss(*batch)
    assert set(losses) == {'loss'}
    assert losses['loss'].equal(plain.loss(*batch)['loss'])


def test_both_passes_without_the_variational_loss(batch, monkeypatch):
    model = make(variational_weight=0, both_passes=True)
    monkeypatch.setattr('toast_mm.models.classifiers.pretune.variational_loss', None)
    assert set(model.loss(*batch)) == {'loss'}
    monkeypatch.undo()
    monkeypatch.setattr(type(model.backbone), 'finish_first_pass', None)
    assert set(make().loss(*batch)) == {'loss', 'loss_var'}


def test_both_together(batch):
    both = make(both_passes=True, variational_weight=0.1).loss(*batch)
    mean = make(both_passes=True, variational_weight=0).loss(*batch)
    variational = make(variational_weight=0.1).loss(*batch)
    torch.testing.assert_close(both['loss'], mean['loss'])
    torch.testing.assert_close(both['loss_var'], variational['loss_var'])


def test_prediction_is_that_of_the_second_pass(batch):
    model, plain = make().eval(), make('ImageClassifier').eval()
    for result, expected in zip(model.predict(*batch), plain.predict(*batch), strict=True):
        assert result.pred_score.equal(expected.pred_score)


def test_defaults_are_those_of_the_paper():
    model = make()
    assert model.variational_weight == 0.03 and model.both_passes is False


def test_a_plain_backbone_is_refused():
    with pytest.raises(ValueError, match=r'top-down module.*this TOASTViT has none'):
        make(source=None)
    backbone = VisionTransformer(arch=ARCH, img_size=16, patch_size=8)
    with pytest.raises(ValueError, match=r'top-down module.*this VisionTransformer has none'):
        PretuneClassifier(backbone)


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match=r'variational_weight=-1 must not be negative'):
        make(variational_weight=-1)
