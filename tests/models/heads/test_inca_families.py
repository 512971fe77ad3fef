"""InCA on all families of backbones: adapters on two of their layers."""

import copy

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from small_backbones import KINDS, tuned

from toast_mm.models import InCADecodeHead, InCAHead

DENSE = dict(out_type='featmap')
MAPS = dict.fromkeys(KINDS, DENSE) | {
    'convnext': dict(gap_before_final_norm=False),
    'mixer': {},  # has only means of its tokens
}
TOKENS = MAPS | {kind: dict(out_type='raw') for kind in ('vit', 'timm', 'eva')}
# Channels of the two last layers, and their tokens for an image of 32 x 32.
SIZES = {
    'vit': ((24, 24), (17, 17)),
    'timm': ((24, 24), (21, 21)),  # with four registers
    'eva': ((24, 24), (17, 17)),
    'convnext': ((8, 12), (16, 4)),
    'stages': ((8, 12), (4, 1)),
    'swin': ((24, 48), (64, 16)),
    'batch norm': ((48, 64), (4, 1)),
}
kinds = pytest.mark.parametrize('kind', SIZES)


def images():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 3, 32, 32, dtype=torch.double, generator=generator)


def build(kind, arguments):
    """The plain backbone with two outputs, in training mode."""
    return tuned(kind, None, out_indices=(-2, -1), **arguments).train()


def classification_head(channels):
    torch.manual_seed(0)
    adapter = dict(embed_dims=8, num_heads=2)
    return InCAHead(2, [*channels], 2, adapter=adapter, predict='ensemble').double()


def dense_head(channels):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        head = InCADecodeHead([*channels], 8, in_index=[0, 1], num_classes=3, num_heads=2)
    return head.double()


def train(head, backbone, loss):
    """The sums of the losses of five steps, and the names of the weights that changed."""
    model = torch.nn.ModuleDict(dict(backbone=backbone, head=head))
    before = copy.deepcopy(model.state_dict())
    optimizer, totals = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.1), []
    for _ in range(5):
        losses = loss(backbone(images()))
        total = sum(value for name, value in losses.items() if 'loss' in name)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    state = model.state_dict()
    return totals, {name for name in state if not torch.equal(state[name], before[name])}


def assert_only_adapters_change(changed, backbone):
    norms = {n for n, p in backbone.named_parameters() if p.requires_grad}
    assert all(name.startswith('norm') for name in norms)  # of dense outputs, which are new
    assert {n for n in changed if n.startswith('backbone.')} == {f'backbone.{n}' for n in norms}
    for layer in range(2):
        assert any(name.startswith(f'head.adapters.{layer}.') for name in changed)


@kinds
def test_classification(kind):
    backbone, (channels, tokens) = build(kind, TOKENS[kind]), SIZES[kind]
    head = classification_head(channels)
    given = backbone(images())
    for width, number, feat in zip(channels, tokens, given, strict=True):
        assert feat.numel() == 4 * width * number
    for logits, adapter, feat in zip(head.layer_logits(given), head.adapters, given, strict=True):
        seen = feat if feat.ndim == 3 else feat.flatten(2).mT
        torch.testing.assert_close(logits, adapter(seen))
    samples = [DataSample().set_gt_label(label) for label in (0, 1, 1, 0)]
    totals, changed = train(head, backbone, lambda feats: head.loss(feats, samples))
    assert totals[-1] < totals[0]
    assert_only_adapters_change(changed, backbone)


@kinds
def test_segmentation(kind):
    backbone = build(kind, MAPS[kind])
    head = dense_head(SIZES[kind][0])
    mask = PixelData(data=(images()[0, :1] > 0).long())
    samples = [SegDataSample(gt_sem_seg=mask) for _ in range(4)]
    totals, changed = train(head, backbone, lambda feats: head.loss(feats, samples, {}))
    assert totals[-1] < totals[0]
    assert_only_adapters_change(changed, backbone)


@pytest.mark.parametrize(('kind', 'width'), [('mixer', 12), ('batch norm', 256), ('stages', 12)])
def test_means_of_features_are_refused(kind, width):
    with torch.no_grad():
        feats = tuned(kind, None)(images())
    with pytest.raises(ValueError, match=rf'shape \(4, {width}\), but tokens .* are needed: set '):
        InCAHead(2, width, 1, adapter=dict(num_heads=2)).double().layer_logits(feats)
    with DefaultScope.overwrite_default_scope('mmseg'):
        head = InCADecodeHead([width], 8, in_index=[0], num_classes=3).double()
    with pytest.raises(ValueError, match=r"a map .* is needed: set in_channels, and out_type='fea"):
        head.layer_logits(feats)
