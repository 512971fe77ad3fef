import pytest
import torch

from toast_mm.topdown import FeatureSelection

DIM = 6


def make(seed=0, **kwargs):
    """A selection whose channel transform is neither symmetric nor the identity."""
    torch.manual_seed(seed)
    selection = FeatureSelection(DIM, **kwargs).double()
    torch.nn.init.normal_(selection.channel_transform)
    return selection


def reference(z, embedding, transform):
    """``m = clamp(cos(z, xi), 0, 1)`` and ``z~ = (m * z) P``, token by token."""
    rows = []
    for token in z.flatten(0, 1):
        cosine = sum(token * embedding) / (sum(token**2) * sum(embedding**2)) ** 0.5
        rows.append(sum(max(cosine, cosine * 0) * token[i] * transform[i] for i in range(DIM)))
    return torch.stack(rows).view_as(z)


def test_values_and_gradients():
    selection = make()
    z = torch.randn(2, 5, DIM, dtype=torch.double, requires_grad=True)
    mask = selection.mask(z)
    assert mask.shape == (2, 5, 1)
    assert (mask == 0).any() and (mask > 0.1).any()  # tokens on both sides of the clamp

    inputs = (z, selection.task_embedding, selection.channel_transform)
    out, expected = selection(z), reference(*inputs)
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    torch.testing.assert_close(
        torch.autograd.grad((out * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
    )


def test_gradients_are_those_of_finite_differences():
    selection = make(1)
    z = torch.randn(1, 4, DIM, dtype=torch.double, requires_grad=True)
    parameters = dict(selection.named_parameters())

    def run(z, *values):
        return torch.func.functional_call(selection, dict(zip(parameters, values, strict=True)), z)

    assert torch.autograd.gradcheck(run, (z, *parameters.values()))


def test_mask_by_hand():
    selection = make()
    with torch.no_grad():
        selection.task_embedding.copy_(torch.tensor([3.0, 4, 0, 0, 0, 0]))
    tokens = torch.tensor(
        [
            [3, 4, 0, 0, 0, 0],  # along the embedding
            [300, 400, 0, 0, 0, 0],  # its length does not matter
            [-3, -4, 0, 0, 0, 0],  # against it
            [4, -3, 0, 0, 0, 0],  # across it
            [5, 0, 0, 0, 0, 0],
            [0, 0, 5, 0, 0, 0],
            [0, 0, 0, 0, 0, 0],  # a token of zeros is not relevant, and no NaN
        ],
        dtype=torch.double,
    )
    expected = torch.tensor([1, 1, 0, 0, 0.6, 0, 0], dtype=torch.double).unsqueeze(-1)
    torch.testing.assert_close(selection.mask(tokens), expected)


def test_mask_never_passes_one():
    torch.manual_seed(0)
    selection = FeatureSelection(768)
    tokens = selection.task_embedding.detach() * torch.rand(1000, 1) * 100
    mask = selection.mask(tokens)
    assert mask.max() <= 1
    torch.testing.assert_close(mask, torch.ones(1000, 1))


def test_zero_token_has_finite_gradients():
    selection = make()
    z = torch.zeros(1, 1, DIM, dtype=torch.double, requires_grad=True)
    selection(z).sum().backward()
    assert z.grad.isfinite().all()
    assert selection.task_embedding.grad.isfinite().all()


def test_transform_acts_on_row_vectors():
    selection = make(token=False)
    z = torch.eye(DIM, dtype=torch.double)[None, :2]  # picks rows of P, not columns
    torch.testing.assert_close(selection(z)[0], selection.channel_transform[:2])


def test_initial_values():
    torch.manual_seed(0)
    selection = FeatureSelection(2048)
    torch.testing.assert_close(selection.channel_transform.detach(), torch.eye(2048))
    embedding = selection.task_embedding.detach()
    assert embedding.shape == (2048,)
    assert embedding.mean().item() == pytest.approx(0, abs=0.1)
    assert embedding.std().item() == pytest.approx(1, abs=0.05)


def test_each_of_both_is_exactly_one_parameter():
    names = [name for name, _ in FeatureSelection(DIM).named_parameters()]
    assert sorted(names) == ['channel_transform', 'task_embedding']


def test_without_token_selection_the_mask_is_one():
    selection = make(token=False)
    z = torch.randn(2, 5, DIM, dtype=torch.double)
    mask = selection.mask(z)
    assert torch.equal(mask, torch.ones(2, 5, 1, dtype=torch.double))
    torch.testing.assert_close(
        selection(z), torch.einsum('bni,ij->bnj', z, selection.channel_transform)
    )
    assert not selection.task_embedding.requires_grad
    assert selection.channel_transform.requires_grad


@pytest.mark.parametrize('tuned', [True, False])
def test_channel_transform_is_tuned_if_asked(tuned):
    selection = make(tune_channel_transform=tuned)
    assert selection.channel_transform.requires_grad is tuned
    assert selection.task_embedding.requires_grad
    assert FeatureSelection(DIM).channel_transform.requires_grad  # the default
