"""Folded backbones: the same outputs, fewer products, no training."""

import copy

import pytest
import torch

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.pretuned import load_pretuned
from toast_mm.models import TOASTConvNeXt, TOASTViT

ROUTES = [('last', 'first'), ('middle', 'first'), ('last', 'middle'), (3, 1), (1, 0)]
routes = pytest.mark.parametrize(('source', 'target'), ROUTES)
VIT = dict(arch=dict(embed_dims=24, num_layers=4, num_heads=2, feedforward_channels=32))
CONVNEXT = dict(arch=dict(depths=[1, 1, 1, 1], channels=[4, 6, 8, 10]))
KINDS = {
    'vit': (TOASTViT, dict(VIT, img_size=32, patch_size=8)),
    'vit, bias once': (TOASTViT, dict(VIT, img_size=32, patch_size=8, value_bias_twice=False)),
    'vit, no bias': (TOASTViT, dict(VIT, img_size=32, patch_size=8, qkv_bias=False)),
    'vit, no mask': (TOASTViT, dict(VIT, img_size=32, patch_size=8, token_selection=False)),
    'vit, lite': (TOASTViT, dict(VIT, img_size=32, patch_size=8, lite=dict(rank=2))),
    'convnext': (TOASTConvNeXt, CONVNEXT),
    'convnext, lite': (TOASTConvNeXt, dict(CONVNEXT, lite=dict(rank=2, alpha=3.0))),
}
kinds = pytest.mark.parametrize('kind', KINDS)
basic_kinds = pytest.mark.parametrize('kind', ['vit', 'convnext'])


def make(kind, source='last', target='first', seed=4):  # masks of this seed let something pass
    cls, kwargs = KINDS[kind]
    backbone = cls(feedback_from=source, feedback_to=target, out_indices=[1, 3], **kwargs)
    torch.manual_seed(seed)  # now: what a construction draws differs between versions of PyTorch
    for name, parameter in backbone.named_parameters():
        scale = parameter.ndim == 1 and name.endswith('.weight')  # of a norm
        torch.nn.init.normal_(parameter, mean=float(scale), std=0.3)
    return backbone.eval()


def image(size=(32, 32)):
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))


def assert_same(outputs, expected, tolerance=1e-5):
    """Assert that tensors are equal, relative to the largest magnitude."""
    assert len(outputs) == len(expected)
    for output, wanted in zip(outputs, expected, strict=True):
        assert (output - wanted).abs().max() <= tolerance * wanted.abs().max()


@routes
@kinds
def test_outputs(kind, source, target):
    backbone = make(kind, source, target)
    size = (36, 65) if 'convnext' in kind else (40, 32)
    expected = backbone(image(size))
    assert backbone.fold() is backbone
    assert_same(backbone(image(size)), expected)
    route = backbone.route
    assert backbone.topdown.feedback.layers.keys() == set(map(str, route.receivers))


@kinds
def test_signals_matter(kind):
    backbone = make(kind).fold()
    steered = backbone(image())[-1]
    for parameter in backbone.topdown.feedback.parameters():
        parameter.zero_()
    assert (steered - backbone(image())[-1]).abs().max() > 0.1


@kinds
def test_folding_twice_changes_nothing(kind):
    backbone = make(kind).fold()
    state = copy.deepcopy(backbone.state_dict())
    outputs = backbone(image())
    backbone.fold()
    assert all(map(torch.equal, backbone(image()), outputs))
    torch.testing.assert_close(backbone.state_dict(), state, rtol=0, atol=0)


@kinds
def test_a_backbone_folds_itself_for_a_folded_checkpoint(kind):
    backbone, other = make(kind), make(kind, seed=1).train()
    expected = backbone(image())
    other.load_state_dict(backbone.fold().state_dict())
    assert other.folded
    assert_same(other.eval()(image()), expected)


@basic_kinds
def test_does_not_train(kind):
    backbone = make(kind).fold()
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(module.training for module in backbone.modules())
    backbone.train(False)
    model = torch.nn.Sequential(backbone)
    with pytest.raises(RuntimeError, match=r'folded for inference and cannot be trained: train'):
        model.train()


@basic_kinds
def test_bfloat16_autocast(kind):
    backbone = make(kind).fold()
    expected = backbone(image())[-1]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        output = backbone(image())[-1].float()
    assert (output - expected).norm() < 0.1 * expected.norm()


@basic_kinds
def test_refusals(kind, tmp_path):
    backbone = make(kind)
    plain, folded = backbone.state_dict(), make(kind).fold().state_dict()
    torch.save(folded, tmp_path / 'folded.pth')
    with pytest.raises(CheckpointError, match='it is folded for inference: name the file before'):
        load_pretuned(make(kind), str(tmp_path / 'folded.pth'))
    with pytest.raises(CheckpointError, match='is folded for inference, but the checkpoint is not'):
        make(kind).fold().load_state_dict(plain)
    with pytest.raises(ValueError, match='no top-down module to fold'):
        make(kind, None).fold()
    wide = TOASTViT(arch=dict(VIT['arch'], embed_dims=32), img_size=32, patch_size=8)
    if kind == 'vit':
        with pytest.raises(CheckpointError, match='of another shape'):
            wide.load_state_dict(folded)
