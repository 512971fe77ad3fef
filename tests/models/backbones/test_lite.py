"""TOAST-Lite on both backbones: what trains, what is loaded, what is refused."""

import logging

import pytest
import torch

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.pretuned import load_pretuned, save_pretuned
from toast_mm.models import TOASTConvNeXt, TOASTViT
from toast_mm.models.backbones import transfer

KINDS = {
    'vit': lambda **kwargs: TOASTViT(
        arch=dict(embed_dims=12, num_layers=3, num_heads=2, feedforward_channels=16),
        img_size=16,
        patch_size=8,
        **kwargs,
    ),
    'convnext': lambda **kwargs: TOASTConvNeXt(
        arch=dict(depths=[1, 1, 1, 1], channels=[4, 6, 8, 10]), out_indices=[3], **kwargs
    ),
}
kinds = pytest.mark.parametrize('kind', KINDS)
LITE = dict(rank=2, alpha=1.0)


def make(kind, seed=0, **kwargs):
    torch.manual_seed(seed)
    backbone = KINDS[kind](**kwargs)
    for name, parameter in backbone.named_parameters():
        if '.updates.' not in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return backbone.eval()


def moved(backbone):
    for parameter in backbone.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3
    return backbone


def image():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@kinds
def test_what_trains(kind):
    backbone = make(kind, lite=LITE).train()
    trains = {name for name, value in backbone.named_parameters() if value.requires_grad}
    moved(backbone)(image())[0].sin().sum().backward()
    assert trains == {name for name, value in backbone.named_parameters() if value.grad is not None}
    topdown = {name.removeprefix('topdown.') for name in trains}
    assert {'selection.task_embedding', 'selection.channel_transform'} < topdown
    assert all('.updates.' in name for name in topdown if name.startswith('feedback.'))


def test_a_random_path_is_warned_of(monkeypatch):
    logged = []
    monkeypatch.setattr(transfer, 'print_log', lambda text, _, level: logged.append((level, text)))
    KINDS['vit']().init_weights()
    assert not logged
    KINDS['vit'](lite=LITE).init_weights()
    ((level, text),) = logged
    assert level == logging.WARNING and 'without pretuned=... that is a random one' in text


def test_signals_without_effect_on_outputs_do_not_train():
    backbone = make('vit', lite=LITE, out_indices=[1])
    frozen = backbone.topdown.feedback.layers['2'].updates.emit
    assert not any(value.requires_grad for value in frozen.parameters())
    assert all(v.requires_grad for v in backbone.topdown.feedback.layers['1'].updates.parameters())


@kinds
def test_starts_as_the_pretuned_module(kind, tmp_path):
    base = make(kind)
    path = str(tmp_path / 'topdown.safetensors')
    save_pretuned(base, path)
    lite = make(kind, seed=1, lite=LITE, pretuned=path)
    lite.load_state_dict({k: v for k, v in base.state_dict().items() if 'topdown' not in k}, False)
    load_pretuned(lite, path)
    assert torch.equal(lite(image())[0], base(image())[0])
    moved(lite)
    assert not torch.allclose(lite(image())[0], base(image())[0], atol=1e-3)

    save_pretuned(lite, path)  # its own file holds the updates
    again = make(kind, seed=2, lite=LITE)
    again.load_state_dict({k: v for k, v in base.state_dict().items() if 'topdown' not in k}, False)
    load_pretuned(again, path)
    assert torch.equal(again(image())[0], lite(image())[0])
    with pytest.raises(CheckpointError, match='it is of TOAST-Lite'):
        load_pretuned(base, path)


@kinds
def test_merged_it_is_toast(kind):
    lite = moved(make(kind, lite=LITE))
    expected = lite(image())[0]
    lite.topdown.feedback.merge()
    assert torch.equal(lite(image())[0], expected)
    plain = make(kind, seed=3)
    plain.load_state_dict(lite.state_dict())
    assert torch.equal(plain(image())[0], expected)


@kinds
def test_refuses_the_other_kind_of_checkpoint(kind):
    lite, plain = make(kind, lite=LITE), make(kind)
    with pytest.raises(CheckpointError, match=r'is of TOAST-Lite.*build it with lite='):
        plain.load_state_dict(lite.state_dict())
    with pytest.raises(CheckpointError, match=r'is of TOAST, without.*leave out lite'):
        lite.load_state_dict(plain.state_dict())
    with pytest.raises(CheckpointError, match='of another shape'):
        make(kind, lite=dict(rank=3)).load_state_dict(lite.state_dict())
    base = {name: value for name, value in plain.state_dict().items() if 'topdown' not in name}
    lite.load_state_dict(base, strict=False)  # a plain backbone is welcome


@pytest.mark.parametrize('kind', ['vit', 'convnext'])
def test_merged_it_is_toast_with_the_same_outputs(kind, tmp_path):
    """Saved and loaded without updates; merged once more, it says that there is nothing."""
    cls, sizes = {
        'vit': (
            TOASTViT,
            dict(
                arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16),
                img_size=16,
                patch_size=8,
            ),
        ),
        'convnext': (TOASTConvNeXt, dict(arch=dict(depths=[1, 1, 1, 1], channels=[4, 4, 8, 8]))),
    }[kind]
    torch.manual_seed(0)
    backbone = cls(**sizes, lite=dict(rank=2)).eval()
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    image = torch.rand(2, 3, 32, 32)
    expected = backbone(image)[0]
    merged = backbone.merge()(image)[0]
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-5)
    other = cls(**sizes).eval()
    other.load_state_dict(backbone.state_dict())
    assert torch.equal(other(image)[0], merged)
    with pytest.raises(ValueError, match='no method added anything'):
        backbone.merge()
