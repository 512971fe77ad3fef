import pytest
import torch

from toast_mm.topdown import DeconvFeedback, LinearFeedback, variational_loss

DIM = 5
BLOCKS = (8, 9, 10)


def make(blocks=BLOCKS):
    torch.manual_seed(0)
    return LinearFeedback(DIM, blocks).double()


def streams(*shape, seed=1, blocks=BLOCKS):
    generator = torch.Generator().manual_seed(seed)
    kwargs = dict(dtype=torch.double, generator=generator)
    return {block: torch.randn(*shape, DIM, **kwargs).requires_grad_() for block in blocks}


def test_value_is_the_sum_of_the_blocks_mean_squares():
    feedback, inputs, outputs = make(), streams(2, 3), streams(2, 3, seed=2)
    expected = 0.0
    for block in BLOCKS:
        weight = feedback.state_dict()[f'layers.{block}.descend.weight']
        for image in range(2):
            for token in range(3):
                error = weight @ outputs[block][image, token] - inputs[block][image, token]
                expected += error.square().sum().item() / (2 * 3 * DIM)
    loss = variational_loss(feedback, inputs, outputs)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_gradient_into_the_first_matrices_alone():
    feedback, inputs, outputs = make(), streams(2, 3), streams(2, 3, seed=2)
    variational_loss(feedback, inputs, outputs).backward()
    for block in BLOCKS:
        layer = feedback.layers[str(block)]
        out, into = outputs[block].detach().flatten(0, 1), inputs[block].detach().flatten(0, 1)
        error = out @ layer.descend.weight.detach().T - into
        torch.testing.assert_close(layer.descend.weight.grad, 2 / error.numel() * error.T @ out)
        assert layer.emit.weight.grad is None
        assert outputs[block].grad is None and inputs[block].grad is None


def test_only_blocks_that_ran():
    """If the last output is below the last receiver, that receiver does not run."""
    feedback, inputs, outputs = make(), streams(2, 3), streams(2, 3, seed=2)
    del inputs[10], outputs[10]
    loss = variational_loss(feedback, inputs, outputs)
    below = make((8, 9))
    below.load_state_dict({k: v for k, v in feedback.state_dict().items() if '.10.' not in k})
    assert torch.equal(loss, variational_loss(below, inputs, outputs))
    loss.backward()
    assert feedback.layers['10'].descend.weight.grad is None


def test_is_zero_if_the_input_is_reconstructed():
    feedback, outputs = make(), streams(2, 3)
    inputs = {
        block: output @ feedback.layers[str(block)].descend.weight.T
        for block, output in outputs.items()
    }
    assert variational_loss(feedback, inputs, outputs).item() == pytest.approx(0, abs=1e-28)


def test_one_block():
    feedback, inputs, outputs = make((0,)), streams(1, blocks=(0,)), streams(1, 2, blocks=(0,))[0]
    inputs, outputs = {0: inputs[0][:, None]}, {0: outputs[:, :1]}
    weight = feedback.layers['0'].descend.weight
    expected = (outputs[0] @ weight.T - inputs[0]).square().mean()
    torch.testing.assert_close(variational_loss(feedback, inputs, outputs), expected)


def test_float32_under_autocast():
    feedback, inputs, outputs = make().float(), streams(2, 3), streams(2, 3, seed=2)
    inputs, outputs = ({k: v.float() for k, v in part.items()} for part in (inputs, outputs))
    expected = variational_loss(feedback, inputs, outputs)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = variational_loss(feedback, inputs, outputs)
    assert loss.dtype == torch.float
    assert loss.item() != expected.item()  # the product is in bfloat16
    torch.testing.assert_close(loss, expected, rtol=0.01, atol=0)


@pytest.mark.parametrize('size', [(8, 8), (9, 11)])
def test_of_maps(size):
    """Inputs are reconstructed in their own size; the image is the input of stage 0."""
    torch.manual_seed(0)
    feedback = DeconvFeedback((3, 4, DIM), (2, 2), range(2)).double()
    shapes = {0: (3, *size), 1: (4, size[0] // 2, size[1] // 2)}
    inputs = {n: torch.randn(2, *shape, dtype=torch.double) for n, shape in shapes.items()}
    outputs = {0: inputs[1] + 1, 1: torch.randn(2, DIM, *(n // 4 for n in size)).double()}
    expected = 0.0
    for stage, wanted in inputs.items():
        layer = feedback.layers[str(stage)]
        made = layer.descend(outputs[stage])
        while made.shape[2] < wanted.shape[2]:
            made = torch.cat([made, made[:, :, -1:]], dim=2)
        while made.shape[3] < wanted.shape[3]:
            made = torch.cat([made, made[..., -1:]], dim=3)
        expected += (made - wanted).square().mean()
    loss = variational_loss(feedback, inputs, outputs)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    tuned = {name for name, value in feedback.named_parameters() if value.grad is not None}
    assert tuned == {f'layers.{n}.descend.weight' for n in (0, 1)}
