"""The segmentation head, against attention and logits that are written out."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from toast_mm.models import InCADecodeHead

MAPS = ((6, 4, 5), (8, 2, 3))  # channels and sizes


def make(**changes):
    arguments = dict(in_channels=[6, 8], channels=8, in_index=[0, 2], num_classes=3, num_heads=2)
    head = InCADecodeHead(**arguments | changes)
    generator = torch.Generator().manual_seed(1)
    for parameter in head.parameters():
        values = torch.randn(parameter.shape, generator=generator, dtype=torch.double)
        parameter.data = 0.4 * values
    return head


@pytest.fixture(autouse=True)
def scope():
    """In which the loss of segmentors is built."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture
def inputs():
    """Of three outputs the head takes the first and the last."""
    generator = torch.Generator().manual_seed(0)
    first, last = (torch.randn(2, *size, dtype=torch.double, generator=generator) for size in MAPS)
    return first, torch.full((2, 1, 1, 1), torch.nan), last


@pytest.fixture
def samples():
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(0, 3, (2, 1, 8, 10), generator=generator)
    labels[0, 0, :3] = 255
    return [
        SegDataSample(
            metainfo=dict(img_shape=(8, 10), ori_shape=(8, 10), pad_shape=(8, 10)),
            gt_sem_seg=PixelData(data=label),
        )
        for label in labels
    ]


def layer_norm(x, norm):
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def reference(adapter, feature_map):
    """Logits pixel by pixel."""
    x = layer_norm(torch.einsum('bchw->bhwc', feature_map), adapter.norm)
    attention, width, heads = adapter.attention, 4, []
    for head in range(2):
        rows = slice(head * width, (head + 1) * width)
        query = adapter.queries @ attention.query.weight[rows].T + attention.query.bias[rows]
        key = torch.einsum('bhwc,dc->bhwd', x, attention.key.weight[rows])
        value = torch.einsum('bhwc,dc->bhwd', x, attention.value.weight[rows])
        weights = (torch.einsum('kd,bhwd->bkhw', query, key) / width**0.5).exp()
        weights = weights / weights.sum((-2, -1), keepdim=True)
        heads.append(torch.einsum('bkhw,bhwd->bkd', weights, value))
    out = torch.cat(heads, -1) @ attention.proj.weight.T + attention.proj.bias
    classes = layer_norm(out, attention.norm)
    pixels = torch.einsum('bhwc,dc->bhwd', x, adapter.pixel.weight)
    logits = torch.einsum('bhwd,bkd->bkhw', pixels, classes) / 8**0.5
    return logits + adapter.bias[:, 0, None, None]


def references(head, inputs):
    return [reference(head.adapters[0], inputs[0]), reference(head.adapters[1], inputs[2])]


def test_logits_of_every_layer(inputs):
    head = make()
    expected = references(head, inputs)
    assert min(logits.std() for logits in expected) > 0.1
    torch.testing.assert_close(head.layer_logits(inputs), expected)


@pytest.mark.parametrize('align_corners', [False, True])
def test_prediction_of_the_ensemble(inputs, align_corners):
    head = make(align_corners=align_corners)
    large, small = references(head, inputs)
    resized = F.interpolate(small, (4, 5), mode='bilinear', align_corners=align_corners)
    scores = (large.softmax(1) + resized.softmax(1)) / 2
    torch.testing.assert_close(head(inputs).exp(), scores)


def test_prediction_of_one_layer(inputs):
    large, small = references(make(), inputs)
    torch.testing.assert_close(make(predict=0)(inputs), large)
    torch.testing.assert_close(make(predict=1)(inputs), small)


def test_the_largest_map_is_not_the_first(inputs):
    head = make(in_index=[2, 0], in_channels=[8, 6])
    assert head(inputs).shape == (2, 3, 4, 5)


def test_every_layer_has_its_own_loss(inputs, samples):
    head = make()
    losses = head.loss(inputs, samples, train_cfg={})
    labels = torch.cat([sample.gt_sem_seg.data for sample in samples])
    assert set(losses) == {f'{n}_layer{i}' for n in ('loss_ce', 'acc_seg') for i in (0, 1)}
    for layer, logits in enumerate(references(head, inputs)):
        logits = F.interpolate(logits, (8, 10), mode='bilinear', align_corners=False)
        pixels = F.cross_entropy(logits, labels, ignore_index=255, reduction='none')
        torch.testing.assert_close(losses[f'loss_ce_layer{layer}'], pixels.mean())
        right = (logits.argmax(1) == labels)[labels != 255].double().mean()
        assert losses[f'acc_seg_layer{layer}'].item() == pytest.approx(100 * right.item())


def test_layers_do_not_depend_on_each_other(inputs, samples):
    together, alone = make(), make()
    sum(v for n, v in together.loss(inputs, samples, {}).items() if 'loss' in n).backward()
    alone.loss(inputs, samples, {})['loss_ce_layer1'].backward()
    for name, parameter in together.adapters[0].named_parameters():
        assert parameter.grad.any() and alone.adapters[0].get_parameter(name).grad is None, name
    for name, parameter in together.adapters[1].named_parameters():
        torch.testing.assert_close(parameter.grad, alone.adapters[1].get_parameter(name).grad)
    assert all(parameter.grad is not None for parameter in together.parameters())  # as DDP demands


def test_bfloat16_autocast(inputs, samples):
    head, inputs = make().float(), [feature_map.float() for feature_map in inputs]
    expected = head.loss(inputs, samples, {})
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = head.loss(inputs, samples, {})
        assert head(inputs).dtype == torch.float
    for name in ('loss_ce_layer0', 'loss_ce_layer1'):
        torch.testing.assert_close(losses[name], expected[name], rtol=0.05, atol=0)


@pytest.mark.parametrize(
    ('backbone', 'in_channels'),
    [
        (
            dict(
                type='toast_mm.TOASTViT',
                arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32),
                img_size=32,
                patch_size=8,
                out_type='featmap',
                out_indices=(0, 1, 3),
            ),
            [16, 16],
        ),
        (
            dict(
                type='toast_mm.TOASTConvNeXt',
                arch=dict(depths=[1, 1, 1, 1], channels=[8, 8, 16, 16]),
                out_indices=(0, 1, 3),
                gap_before_final_norm=False,
            ),
            [8, 16],
        ),
    ],
    ids=['vit', 'convnext'],
)
def test_in_a_segmentor(backbone, in_channels, samples):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(
            ConfigDict(
                type='EncoderDecoder',
                backbone=dict(feedback_from=None, **backbone),
                decode_head=dict(
                    type='toast_mm.InCADecodeHead',
                    in_channels=in_channels,
                    in_index=[0, 2],
                    channels=16,
                    num_classes=3,
                ),
                train_cfg=dict(),
                test_cfg=dict(mode='whole'),
            )
        )
    model.init_weights()
    model.train()
    images = torch.rand(2, 3, 32, 32)
    losses = model.loss(images, samples)
    names = {f'decode.loss_ce_layer{layer}' for layer in (0, 1)}
    total, _ = model.parse_losses(losses)
    torch.testing.assert_close(total, sum(losses[name] for name in names))
    total.backward()
    for name, parameter in model.named_parameters():
        if name.startswith('decode_head.'):
            assert parameter.grad is not None, name
        elif not name.startswith(('backbone.norm0', 'backbone.norm1')):  # of dense outputs
            assert parameter.grad is None, name
    model.eval()
    (result, _) = model.predict(images, samples)
    assert result.seg_logits.data.shape == (3, 8, 10)
    assert torch.equal(result.pred_sem_seg.data[0], result.seg_logits.data.argmax(0))


ERRORS = [
    (dict(in_channels=8), r'in_channels=8 must be Sequence\[int\]'),
    (dict(in_index=[0]), r'in_channels=\[6, 8\] and in_index=\[0\] must be lists of one number'),
    (dict(in_index=[], in_channels=[]), r'must be lists of one number per map'),
    (dict(predict='best'), r"predict='best' must be 'ensemble' or .* 0\.\.1"),
    (dict(predict=2), r'predict=2 must be'),
    (dict(norm_cfg=dict(type='BN'), dropout_ratio=0.1), r'leave out dropout_ratio, norm_cfg'),
    (dict(num_heads=3), r'num_heads=3 of the cross attention must divide'),
    (
        dict(num_classes=2, out_channels=1, threshold=0.5),
        r'out_channels=1 must be num_classes=2, since every class has one query',
    ),
]


@pytest.mark.parametrize(('changes', 'message'), ERRORS)
def test_arguments_that_do_not_fit(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make(**changes)


def test_outputs_that_do_not_fit(inputs):
    head = make()
    with pytest.raises(ValueError, match=r'in_index=\[0, 2\] does not fit the 2 outputs'):
        head(inputs[:2])
    with pytest.raises(ValueError, match=r'output 2 .* shape \(2, 8, 2\), .* C=8 channels'):
        head((inputs[0], inputs[1], inputs[2][..., 0]))
    with pytest.raises(ValueError, match=r'output 0 .* shape \(2, 5, 4, 5\), .* C=6 channels'):
        head((inputs[0][:, 1:], *inputs[1:]))
