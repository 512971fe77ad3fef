import math

import pytest
import torch

from toast_mm.topdown import DeconvFeedback, LinearFeedback

DIM = 5


def make(receivers, seed=0):
    torch.manual_seed(seed)
    feedback = LinearFeedback(DIM, receivers).double()
    for parameter in feedback.parameters():
        torch.nn.init.normal_(parameter, std=DIM**-0.5)
    return feedback


def reference(feedback, selected):
    """``h_l = W1_l h_{l+1}`` and ``td_l = W2_l h_l`` from the deepest receiver down."""
    weights = dict(feedback.named_parameters())
    signals, hidden = {}, selected
    for block in (10, 9, 8):
        hidden = torch.einsum('oi,bni->bno', weights[f'layers.{block}.descend.weight'], hidden)
        emit = weights[f'layers.{block}.emit.weight']
        signals[block] = torch.einsum('oi,bni->bno', emit, hidden)
    return signals


# Blocks 8, 9, 10 sort differently as strings. The given order does not matter.
@pytest.mark.parametrize('receivers', [range(8, 11), (10, 8, 9)])
def test_values_and_gradients(receivers):
    feedback = make(receivers)
    selected = torch.randn(2, 3, DIM, dtype=torch.double, requires_grad=True)
    signals, expected = feedback(selected), reference(feedback, selected)
    assert sorted(signals) == [8, 9, 10]
    torch.testing.assert_close(signals, expected)

    weight = torch.randn(3, 2, 3, DIM, dtype=torch.double)
    inputs = (selected, *feedback.parameters())

    def gradients(signals):
        loss = sum((signals[block] * weight[block - 8]).sum() for block in signals)
        return torch.autograd.grad(loss, inputs)

    torch.testing.assert_close(gradients(signals), gradients(expected))


def test_gradients_are_those_of_finite_differences():
    feedback = make(range(2))
    selected = torch.randn(1, 2, DIM, dtype=torch.double, requires_grad=True)
    parameters = dict(feedback.named_parameters())

    def run(selected, *values):
        values = dict(zip(parameters, values, strict=True))
        return tuple(torch.func.functional_call(feedback, values, selected).values())

    assert torch.autograd.gradcheck(run, (selected, *parameters.values()))


def test_is_linear_without_offset():
    feedback = make(range(3))
    one, two = torch.randn(2, 1, 4, DIM, dtype=torch.double)
    mixed = feedback(2 * one - 3 * two)
    for block, signal in feedback(one).items():
        torch.testing.assert_close(mixed[block], 2 * signal - 3 * feedback(two)[block])


def test_each_receiver_has_two_square_weights_keyed_by_its_block():
    shapes = {name: tuple(value.shape) for name, value in make((1, 2)).state_dict().items()}
    names = (f'layers.{block}.{which}.weight' for block in (1, 2) for which in ('descend', 'emit'))
    assert shapes == dict.fromkeys(names, (DIM, DIM))


def test_initial_values():
    torch.manual_seed(0)
    for dim, kwargs, std in (
        (768, {}, 0.02),  # as published
        (128, {}, 0.049),  # the same gain per matrix: 0.02 * sqrt(768 / 128)
        (256, dict(gain=1.0), 1 / 16),
    ):
        for weight in LinearFeedback(dim, range(1), **kwargs).parameters():
            assert weight.mean().item() == pytest.approx(0, abs=2e-3)
            assert weight.std().item() == pytest.approx(std, rel=0.02)
            assert weight.abs().max() < std * 6  # normal, not uniform over a wide range
            assert (weight.abs() < std).float().mean().item() == pytest.approx(0.683, abs=0.01)


def test_a_random_signal_keeps_its_strength_at_any_width():
    torch.manual_seed(0)
    ratios = []
    for dim in (64, 768):
        selected = torch.randn(32, dim)
        signals = LinearFeedback(dim, range(2))(selected)
        ratios.append([(signals[block].norm() / selected.norm()).item() for block in range(2)])
    gain = 0.02 * 768**0.5
    for ratio in ratios:  # two matrices to block 1, three to block 0
        assert ratio == pytest.approx([gain**3, gain**2], rel=0.1)


def test_reconstruction_is_a_product_with_the_first_matrix_of_its_block():
    feedback, output = make((8, 9)), torch.randn(2, 3, DIM, dtype=torch.double)
    for block in (8, 9):
        weight = feedback.state_dict()[f'layers.{block}.descend.weight']
        expected = torch.einsum('oi,bni->bno', weight, output)
        torch.testing.assert_close(feedback.descend(block, output), expected)


CHANNELS, STRIDES = (3, 4, 6, 5), (4, 2, 2)


def make_deconv(receivers=range(3)):
    torch.manual_seed(0)
    feedback = DeconvFeedback(CHANNELS, STRIDES, receivers).double()
    for parameter in feedback.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return feedback


def deconvolve(feedback, stage, hidden, size):
    """Every pixel becomes a square; pixels beyond all squares repeat the last ones."""
    state = feedback.state_dict()
    side, weight = STRIDES[stage], state[f'layers.{stage}.descend.weight']
    out = torch.zeros(len(hidden), CHANNELS[stage], *size, dtype=torch.double)
    for y in range(size[0]):
        for x in range(size[1]):
            row = min(y, side * hidden.shape[2] - 1)
            column = min(x, side * hidden.shape[3] - 1)
            pixel = hidden[:, :, row // side, column // side]
            out[:, :, y, x] = pixel @ weight[:, :, row % side, column % side]
    return out


@pytest.mark.parametrize('rounded', [math.floor, math.ceil])
@pytest.mark.parametrize('size', [(16, 32), (17, 19), (23, 31)])
def test_deconvolutions(size, rounded):
    """Maps of sizes that the stages halve, that they cut off, and that they pad."""
    feedback = make_deconv()
    sizes = {stage: tuple(rounded(n / s) for n in size) for stage, s in enumerate((1, 4, 8))}
    selected = torch.randn(2, *(rounded(n / 16) for n in size), CHANNELS[-1], dtype=torch.double)
    signals = feedback(selected, sizes)
    hidden = selected.permute(0, 3, 1, 2)
    for stage in (2, 1, 0):
        hidden = deconvolve(feedback, stage, hidden, sizes[stage])
        emit = feedback.state_dict()[f'layers.{stage}.emit.weight'].flatten(1)
        expected = torch.einsum('oi,bihw->bohw', emit, hidden)
        torch.testing.assert_close(signals[stage], expected)
    assert sorted(signals) == [0, 1, 2]


def test_deconvolutions_make_the_size_where_none_is_wanted():
    signals = make_deconv((1, 2))(torch.randn(1, 2, 3, CHANNELS[-1], dtype=torch.double))
    assert {stage: signal.shape[1:] for stage, signal in signals.items()} == {
        1: (4, 8, 12),
        2: (6, 4, 6),
    }


def test_initial_values_of_deconvolutions():
    """Published: PyTorch's for transposed convolutions, 0.02 for the others, of ConvNeXt-B."""
    torch.manual_seed(0)
    for factor in (1, 0.25):
        channels = (3, *(int(factor * width) for width in (128, 256, 512)))
        feedback = DeconvFeedback(channels, (4, 2, 2), range(3))
        for stage in range(3):
            layer = feedback.layers[str(stage)]
            bound = 1 / (channels[stage] * (16 if stage == 0 else 4)) ** 0.5
            assert layer.descend.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
            std = 0.02 if stage == 0 else 0.02 / factor**0.5
            rel = 0.5 if stage == 0 else 0.05  # of the image there are nine
            assert layer.emit.weight.std().item() == pytest.approx(std, rel=rel)
            assert layer.emit.bias is None and layer.descend.bias is None
    assert DeconvFeedback((3, 128, 256), (4, 2), [1], std=0.1).layers[
        '1'
    ].emit.weight.std().item() == pytest.approx(0.1, rel=0.05)


def test_deconvolutions_keep_the_strength_of_a_signal_at_any_width():
    torch.manual_seed(0)
    strength = []
    for factor in (1, 0.25):
        widths = [int(factor * width) for width in (128, 256, 512)]
        selected = torch.randn(2, 4, 4, widths[-1])
        signals = DeconvFeedback((3, *widths), (4, 2, 2), (1, 2))(selected)
        strength.append({stage: signal.std().item() for stage, signal in signals.items()})
    assert strength[1] == pytest.approx(strength[0], rel=0.1)


@pytest.mark.parametrize('factor', [0, -1.0])
def test_no_signal_at_the_start(factor):
    with pytest.raises(ValueError, match=f'^feedback_gain={factor} must be above 0'):
        LinearFeedback(8, range(2), gain=factor)
    with pytest.raises(ValueError, match=f'^feedback_std={factor} must be above 0'):
        DeconvFeedback((3, 8, 8), (4, 2), range(2), std=factor)
