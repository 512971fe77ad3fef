"""The classification head: losses, predictions, and how independent its layers are."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample

from toast_mm.models import InCAHead, TOASTConvNeXt

SIZES = dict(
    arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32),
    img_size=16,
    patch_size=8,
)
LABELS = torch.tensor([0, 2, 1, 2, 2])


def scatter(module, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        values = torch.randn(parameter.shape, generator=generator, dtype=torch.double)
        parameter.data = 0.3 * values.to(parameter.dtype)
    return module


def make(num_layers=3, in_channels=8, **kwargs):
    return scatter(InCAHead(3, in_channels, num_layers, **kwargs)).double()


@pytest.fixture
def feats():
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(5, tokens, 8, dtype=torch.double, generator=generator) for tokens in (4, 6, 5)
    )


@pytest.fixture
def samples():
    return [DataSample().set_gt_label(int(label)) for label in LABELS]


def logits_of(head, feats):
    return [adapter(feat) for adapter, feat in zip(head.adapters, feats, strict=True)]


def test_every_layer_has_its_own_loss(feats, samples):
    head = make()
    losses = head.loss(feats, samples)
    assert list(losses) == ['loss_layer0', 'loss_layer1', 'loss_layer2']
    for loss, logits in zip(losses.values(), logits_of(head, feats), strict=True):
        torch.testing.assert_close(loss, F.cross_entropy(logits, LABELS))
    assert len({round(loss.item(), 6) for loss in losses.values()}) == 3


def test_configured_loss_and_mixed_targets(feats):
    head = make(loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'))
    scores = torch.rand(5, 3, dtype=torch.double).softmax(1)
    samples = [DataSample().set_gt_score(score) for score in scores]
    smooth = 0.9 * scores + 0.1 / 3
    losses = head.loss(feats, samples).values()
    for loss, logits in zip(losses, logits_of(head, feats), strict=True):
        torch.testing.assert_close(loss, -(smooth * logits.log_softmax(1)).sum(1).mean())


def test_accuracy_of_every_layer(feats, samples):
    head = make(cal_acc=True, topk=(1, 2))
    for adapter in head.adapters:
        adapter.read_out.bias.data += 10  # mmpretrain counts no class of a negative logit
    losses = head.loss(feats, samples)
    for layer, logits in enumerate(logits_of(head, feats)):
        for k in (1, 2):
            right = (logits.topk(k).indices == LABELS[:, None]).any(1).double().mean()
            (given,) = losses[f'accuracy_top-{k}_layer{layer}']
            assert given.item() == pytest.approx(100 * right.item())
    assert len(losses) == 9


def test_layers_train_together_as_they_train_alone(feats, samples):
    together = make()
    alone = []
    for layer, adapter in enumerate(make().adapters):
        head = make(num_layers=1)
        head.adapters[0].load_state_dict(adapter.state_dict())
        alone.append((head, feats[layer : layer + 1]))
    for head, inputs in ((together, feats), *alone):
        optimizer = torch.optim.AdamW(head.parameters(), lr=0.05)
        for _ in range(3):
            optimizer.zero_grad()
            sum(head.loss(inputs, samples).values()).backward()
            optimizer.step()
    start = make()
    for layer, (head, _) in enumerate(alone):
        for name, value in together.adapters[layer].named_parameters():
            assert torch.equal(value, head.adapters[0].get_parameter(name)), name
            assert not torch.equal(value, start.adapters[layer].get_parameter(name)), name


def test_the_loss_of_a_layer_reaches_no_other(feats, samples):
    head = make()
    head.loss(feats, samples)['loss_layer1'].backward()
    for layer, adapter in enumerate(head.adapters):
        for name, parameter in adapter.named_parameters():
            reached = parameter.grad is not None and bool(parameter.grad.any())
            assert reached is (layer == 1), name


def test_prediction_is_that_of_the_best_layer(feats, samples):
    head = make()
    scores = torch.stack([logits.softmax(1) for logits in logits_of(head, feats)], 1)
    assert head.best_layer.dtype == torch.int64
    for best in (None, 0, 1):
        if best is not None:
            head.best_layer.fill_(best)
        layer = 2 if best is None else best  # before any validation, the last
        results = head.predict(feats, samples)
        for result, sample, expected in zip(results, samples, scores, strict=True):
            assert result is sample
            torch.testing.assert_close(result.pred_score, expected[layer])
            assert result.pred_label.item() == expected[layer].argmax()
            torch.testing.assert_close(result.layer_scores, expected)
    torch.testing.assert_close(head(feats).softmax(1), scores[:, 1])


def test_prediction_of_the_ensemble_and_of_one_layer(feats):
    scores = torch.stack([logits.softmax(1) for logits in logits_of(make(), feats)], 1)
    for predict, expected in (('ensemble', scores.mean(1)), (0, scores[:, 0]), (1, scores[:, 1])):
        head = make(predict=predict)
        results = head.predict(feats)
        torch.testing.assert_close(torch.stack([r.pred_score for r in results]), expected)
        torch.testing.assert_close(torch.stack([r.layer_scores for r in results]), scores)
        logits = head(feats)
        torch.testing.assert_close(logits.softmax(1), expected)
        if predict == 'ensemble':
            torch.testing.assert_close(logits.exp(), expected)


def test_maps_are_taken_for_tokens():
    generator = torch.Generator().manual_seed(0)
    maps = [
        torch.randn(2, channels, 3, 2, dtype=torch.double, generator=generator)
        for channels in (8, 16)
    ]
    head = make(2, in_channels=[8, 16])
    tokens = [torch.stack([m[:, :, h, w] for h in range(3) for w in range(2)], 1) for m in maps]
    torch.testing.assert_close(head.layer_logits(maps), torch.stack(logits_of(head, tokens)))


def test_the_best_layer_is_in_the_checkpoint(feats, tmp_path):
    head = make()
    head.best_layer.fill_(1)
    torch.save(head.state_dict(), tmp_path / 'head.pth')
    other = scatter(make(), seed=5)
    other.load_state_dict(torch.load(tmp_path / 'head.pth'))
    assert other.best_layer.item() == 1
    assert torch.equal(other(feats), head(feats))


def test_bfloat16_autocast(feats, samples):
    head, feats = make().float(), [feat.float() for feat in feats]
    expected = head.loss(feats, samples)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = head.loss(feats, samples)
        (result, *_) = head.predict(feats)
    for name, value in losses.items():
        assert value.dtype == torch.float
        torch.testing.assert_close(value, expected[name], rtol=0.05, atol=0)
    exact = head.predict(feats)[0].layer_scores
    torch.testing.assert_close(result.layer_scores.float(), exact, rtol=0, atol=0.03)


def classifier(backbone=None, **head):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(
            dict(
                type='ImageClassifier',
                backbone=dict(
                    type='toast_mm.TOASTViT',
                    feedback_from=None,
                    out_type='raw',
                    out_indices=[-3, -2, -1],
                    **SIZES,
                    **(backbone or {}),
                ),
                head=dict(
                    type='toast_mm.InCAHead', num_classes=3, in_channels=16, num_layers=3, **head
                ),
            )
        )


def test_nothing_enters_the_backbone(samples):
    model = classifier().train()
    images = torch.rand(5, 3, 16, 16)
    given = []
    model.head.register_forward_pre_hook(lambda module, args: given.extend(args[0]))
    losses = model.loss(images, samples)
    total, logged = model.parse_losses(losses)
    torch.testing.assert_close(total, sum(losses.values()))
    assert set(logged) == {'loss', *losses}
    total.backward()
    model.head(model.extract_feat(images))
    assert len(given) == 3 and not any(feat.requires_grad for feat in given)
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    for name, parameter in model.head.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_layers_are_those_of_the_backbone(samples):
    model = classifier(predict='ensemble').eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    images = torch.rand(5, 3, 16, 16)
    results = model.predict(images, samples)
    stream, _ = model.backbone.embed(images)
    for block, layer in enumerate(model.backbone.layers):
        stream = layer(stream)
        if block:
            tokens = model.backbone.ln1(stream) if block == 3 else stream
            expected = model.head.adapters[block - 1](tokens).softmax(1)
            given = torch.stack([result.layer_scores[block - 1] for result in results])
            torch.testing.assert_close(given, expected)


def test_maps_of_a_convnext(samples):
    backbone = TOASTConvNeXt(
        arch=dict(depths=[1, 1, 1, 1], channels=[8, 8, 16, 16]),
        feedback_from=None,
        out_indices=(1, 3),
        gap_before_final_norm=False,
    )
    head = InCAHead(3, [8, 16], num_layers=2)
    losses = head.loss(backbone(torch.rand(5, 3, 32, 32)), samples)
    assert list(losses) == ['loss_layer0', 'loss_layer1']


ERRORS = [
    (dict(num_layers=0), r'in_channels=8 must be .*num_layers=0 layers.* at least 1'),
    (dict(in_channels=[8, 8]), r'in_channels=\[8, 8\] must be .* each of num_layers=3 layers'),
    (dict(predict='worst'), r"predict='worst' must be 'best', 'ensemble' or .* 0\.\.2"),
    (dict(predict=3), r'predict=3 must be'),
    (dict(adapter=dict(num_heads=3)), r'num_heads=3 of the cross attention must divide'),
]


@pytest.mark.parametrize(('arguments', 'message'), ERRORS)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_outputs_that_do_not_fit(feats):
    head = make()
    with pytest.raises(ValueError, match=r'num_layers=3 adapters, .* 2 outputs: its out_indices'):
        head(feats[:2])
    with pytest.raises(ValueError, match=r"output 1 .* shape \(5, 8\), .* out_type='raw' of a ViT"):
        head((feats[0], feats[1][:, 0], feats[2]))
    with pytest.raises(ValueError, match=r'output 2 .* shape \(5, 5, 7\), .* C=8 channels'):
        head((feats[0], feats[1], feats[2][..., 1:]))
