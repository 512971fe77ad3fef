"""Low-rank updates of the feedback path, against updated copies of it."""

import copy

import pytest
import torch
from torch import nn

from toast_mm.topdown import DeconvFeedback, FeatureSelection, LinearFeedback, TopDown
from toast_mm.topdown.low_rank import LowRankUpdate

MODULES = {
    'linear': lambda: nn.Linear(5, 7),
    'convolution': lambda: nn.Conv2d(5, 7, 1),
    'transposed convolution': lambda: nn.ConvTranspose2d(5, 7, 2, 2),
}
modules = pytest.mark.parametrize('make_module', MODULES.values(), ids=MODULES)


def randomise(module):
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    return module.double()


def linear_path():
    return LinearFeedback(6, range(2)), torch.randn(2, 3, 6).double(), None


def deconvolutional_path():
    sizes = {0: (17, 18), 1: (4, 4)}
    return DeconvFeedback((3, 4, 6), (4, 2), range(2)), torch.randn(2, 2, 2, 6).double(), sizes


paths = pytest.mark.parametrize('make_path', [linear_path, deconvolutional_path])


def written_out(module, update, scale):
    """The layer with the update added to every entry of its weight."""
    updated = copy.deepcopy(module)
    product = update.up.detach() @ update.down.detach()
    with torch.no_grad():
        for out in range(7):
            for into in range(5):
                if isinstance(module, nn.ConvTranspose2d):
                    for y in range(2):
                        for x in range(2):
                            row = (out * 2 + y) * 2 + x
                            updated.weight[into, out, y, x] += scale * product[row, into]
                else:
                    updated.weight.view(7, 5)[out, into] += scale * product[out, into]
    return updated


@modules
@pytest.mark.parametrize(('settings', 'scale'), [({}, 0.25), (dict(rank=2, alpha=6.0), 3.0)])
def test_values_and_gradients(make_module, settings, scale):
    torch.manual_seed(0)
    module = make_module()
    update = LowRankUpdate(module, **settings)
    randomise(module), randomise(update)
    shape = (2, 5) if isinstance(module, nn.Linear) else (2, 5, 3, 3)
    x = torch.randn(shape, dtype=torch.double)
    expected = written_out(module, update, scale)
    out = update.run(module, x)
    torch.testing.assert_close(out, expected(x))

    out.sin().sum().backward()
    expected(x).sin().sum().backward()
    torch.testing.assert_close(module.weight.grad, expected.weight.grad)
    whole = expected.weight.grad.flatten(1)
    if isinstance(module, nn.ConvTranspose2d):
        whole = whole.T
    torch.testing.assert_close(update.up.grad, scale * whole @ update.down.T)
    torch.testing.assert_close(update.down.grad, scale * update.up.T @ whole)


def test_start():
    torch.manual_seed(0)
    module = nn.Linear(400, 300)
    update = LowRankUpdate(module)
    assert (update.up.shape, update.down.shape) == ((300, 4), (4, 400))
    assert not update.up.any()
    assert update.down.abs().max().item() == pytest.approx(1 / 20, rel=0.01)  # uniform
    assert update.down.std().item() == pytest.approx(1 / 20 / 3**0.5, rel=0.05)
    x = torch.randn(2, 400)
    assert torch.equal(update.run(module, x), module(x))


@paths
def test_path_with_updates(make_path):
    torch.manual_seed(0)
    path, selected, sizes = make_path()
    path.add_low_rank(rank=2, alpha=3.0)
    randomise(path)
    tuned = {name for name, value in path.named_parameters() if value.requires_grad}
    assert tuned == {
        f'layers.{block}.updates.{part}.{which}'
        for block in (0, 1)
        for part in ('descend', 'emit')
        for which in ('down', 'up')
    }
    plain = make_path()[0].double()
    weights = {k: v.clone() for k, v in path.state_dict().items() if '.updates.' not in k}
    for name, weight in weights.items():
        if name.endswith('.weight'):
            layer, part = name.rsplit('.', 2)[:2]
            update = path.get_submodule(f'{layer}.updates.{part}')
            delta = 1.5 * update.up.detach() @ update.down.detach()
            transposed = 'descend' in name and weight.ndim == 4
            weight += (delta.T if transposed else delta).reshape(weight.shape)
    plain.load_state_dict(weights)
    torch.testing.assert_close(path(selected, sizes), plain(selected, sizes))


@paths
def test_merging_changes_nothing_however_often(make_path):
    torch.manual_seed(0)
    path, selected, sizes = make_path()
    path.add_low_rank()
    randomise(path)
    expected = path(selected, sizes)
    for _ in range(2):
        path.merge()
        assert all(map(torch.equal, path(selected, sizes).values(), expected.values()))
        assert path.state_dict().keys() == make_path()[0].state_dict().keys()
    other = make_path()[0].double()
    other.load_state_dict(path.state_dict())
    assert all(map(torch.equal, other(selected, sizes).values(), expected.values()))


@paths
def test_saving_in_eval_mode_and_loading_again(make_path):
    torch.manual_seed(0)
    path, selected, sizes = make_path()
    path.add_low_rank(rank=2, alpha=3.0)
    randomise(path).eval()
    expected = path(selected, sizes)
    again = make_path()[0]
    again.add_low_rank(rank=2, alpha=7.0)  # the scale of the training counts
    again.double()
    again.load_state_dict(path.state_dict())
    for _ in range(2):
        again.train().eval()
        assert all(map(torch.equal, again(selected, sizes).values(), expected.values()))


def test_what_trains_in_a_top_down_module():
    """Paper sec. 3.2 on ViT-B: 12 layers with two matrices each, less than 1%."""
    feedback = LinearFeedback(768, range(12))
    topdown = TopDown(FeatureSelection(768), feedback, lite=dict(rank=4, alpha=1.0))
    tuned = sum(value.numel() for value in topdown.parameters() if value.requires_grad)
    assert tuned == 12 * 2 * 2 * 4 * 768 + 768**2 + 768 == 738_048


def test_refuses_what_cannot_be():
    with pytest.raises(
        ValueError, match='rank=0 of a low-rank update must be an integer of at least 1'
    ):
        LinearFeedback(4, range(1)).add_low_rank(rank=0)
    for alpha in (-1.0, 0, 'a'):
        with pytest.raises(ValueError, match=f'^alpha={alpha!r} of a low-rank .* number above 0'):
            LinearFeedback(4, range(1)).add_low_rank(alpha=alpha)
    with pytest.raises(ValueError, match='channel_selection=False'):
        TopDown(FeatureSelection(4), LinearFeedback(4, range(1)), False, lite={})
    with pytest.raises(ValueError, match='ranks is unknown'):
        TopDown(FeatureSelection(4), LinearFeedback(4, range(1)), lite=dict(ranks=2))


def test_update_under_autocast():
    torch.manual_seed(0)
    path, selected, _ = linear_path()
    path.add_low_rank()
    randomise(path).float()
    expected = path(selected.float())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        signals = path(selected.float())
    for block, signal in signals.items():
        assert signal.dtype == torch.bfloat16
        assert (signal - expected[block]).norm() < 0.05 * expected[block].norm()
