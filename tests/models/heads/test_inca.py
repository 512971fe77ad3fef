"""The cross-attention adapter, against attention that is written out."""

import pytest
import torch
from mmengine.runner import load_state_dict
from torch import nn

from toast_mm.checkpoint import CheckpointError
from toast_mm.models.heads import CrossAttentionAdapter

SEVERAL = dict(num_queries=3, num_heads=2)  # 6 projected queries, at most the 8 of the width
FORMS = {
    'one query': dict(num_heads=4),
    'several queries': SEVERAL,
    'many queries': dict(num_queries=5, num_heads=2),
    'narrow': dict(embed_dims=4, num_heads=2),
    'wide': dict(embed_dims=12, num_heads=3, norm_eps=0.1),
    'open, few classes': dict(per_class=True, num_heads=1),
    'open, many classes': dict(per_class=True, num_heads=4),
    'open, added classes': dict(per_class=True, num_heads=4, old_classes=3),
}


def scatter(module, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        values = torch.randn(parameter.shape, generator=generator, dtype=torch.double)
        parameter.data = 0.5 * values.to(parameter.dtype)
    return module


def make(num_classes=5, **form):
    adapter = scatter(CrossAttentionAdapter(8, num_classes, **form).double())
    if 'old_classes' in form:
        adapter.load_state_dict(adapter.state_dict())  # it does not train before
    return adapter


@pytest.fixture
def tokens():
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(4, 6, 8, dtype=torch.double, generator=generator) + 1


def layer_norm(x, norm):
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def attend(attention, queries, x):
    """``LN(out)`` ``(B, Q, d)``, head by head."""
    width = len(attention.query.weight) // attention.num_heads
    heads = []
    for head in range(attention.num_heads):
        rows = slice(head * width, (head + 1) * width)
        query = queries @ attention.query.weight[rows].T + attention.query.bias[rows]
        key = torch.einsum('bnc,dc->bnd', x, attention.key.weight[rows])
        value = torch.einsum('bnc,dc->bnd', x, attention.value.weight[rows])
        weights = torch.einsum('qd,bnd->bqn', query, key).div(width**0.5).exp()
        weights = weights / weights.sum(-1, keepdim=True)
        heads.append(torch.einsum('bqn,bnd->bqd', weights, value))
    out = torch.cat(heads, -1) @ attention.proj.weight.T + attention.proj.bias
    return layer_norm(out, attention.norm)


def reference(adapter, tokens):
    x = layer_norm(tokens, adapter.norm)
    if not adapter.per_class:
        v = attend(adapter.attention, adapter.queries, x)
        weight, bias = adapter.read_out.weight, adapter.read_out.bias
        return torch.einsum('bqd,kd->bk', v, weight) / len(adapter.queries) + bias
    logits = []
    for step in adapter.classes:
        v = attend(adapter.attention, step.queries, x)
        logits.append(torch.einsum('bkd,kd->bk', v, step.weight) + step.bias)
    return torch.cat(logits, 1)


@pytest.mark.parametrize('form', FORMS.values(), ids=FORMS)
def test_logits_and_gradients(form, tokens):
    adapter = make(**form)
    expected = reference(adapter, tokens)
    assert expected.shape == (4, 5) and expected.std() > 0.1
    logits = adapter(tokens)
    torch.testing.assert_close(logits, expected)
    tuned = [parameter for parameter in adapter.parameters() if parameter.requires_grad]
    given = torch.autograd.grad(logits.square().sum(), tuned)
    wanted = torch.autograd.grad(expected.square().sum(), tuned)
    assert min(gradient.norm() for gradient in wanted) > 1e-3
    torch.testing.assert_close(given, wanted)


@pytest.mark.parametrize(
    ('form', 'calls'), [(FORMS['one query'], 0), (SEVERAL, 0), (FORMS['many queries'], 2)]
)
def test_few_queries_do_not_project_the_tokens(form, calls, tokens):
    adapter = make(**form)
    called = []
    for layer in (adapter.attention.key, adapter.attention.value):
        layer.register_forward_hook(lambda *args: called.append(args))
    adapter(tokens)
    assert len(called) == calls


@pytest.mark.parametrize('form', FORMS.values(), ids=FORMS)
def test_bfloat16_autocast(form, tokens):
    adapter = make(**form).float()
    tokens = tokens.float()
    expected = adapter(tokens)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        logits = adapter(tokens)
    torch.testing.assert_close(logits.float(), expected, rtol=0.05, atol=0.15)
    assert not torch.equal(logits.float(), expected)
    logits.float().square().sum().backward()
    for name, parameter in adapter.named_parameters():
        assert (parameter.grad is not None) is parameter.requires_grad, name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_initialisation():
    torch.manual_seed(0)
    adapter = CrossAttentionAdapter(64, 200, num_queries=100, init_std=0.3)
    assert adapter.queries.std().item() == pytest.approx(0.3, rel=0.05)
    assert adapter.read_out.weight.std().item() == pytest.approx(0.3, rel=0.05)
    assert not adapter.read_out.bias.any()
    for name in ('query', 'key', 'value', 'proj'):
        layer = adapter.attention.get_submodule(name)
        bound = (6 / 128) ** 0.5
        assert 0.95 * bound < layer.weight.abs().max() <= bound
        assert layer.bias is None or not layer.bias.any()
    (classes,) = CrossAttentionAdapter(64, 200, per_class=True, init_std=0.3).classes
    assert classes.queries.std().item() == pytest.approx(0.3, rel=0.05)
    assert classes.weight.std().item() == pytest.approx(0.3, rel=0.05)
    assert not classes.bias.any()


def test_defaults():
    adapter = CrossAttentionAdapter(16, 3)
    assert adapter.queries.shape == (1, 16)
    assert adapter.attention.num_heads == 8
    assert adapter.norm.eps == adapter.attention.norm.eps == 1e-6
    assert all(parameter.requires_grad for parameter in adapter.parameters())


def test_attention_starts_as_a_mean():
    torch.manual_seed(0)
    adapter = CrossAttentionAdapter(64, 5).double()
    tokens = torch.randn(2, 6, 64, dtype=torch.double)
    x = adapter.norm(tokens)
    value = adapter.attention.proj(adapter.attention.value(x.mean(1)))
    expected = adapter.read_out(adapter.attention.norm(value))
    torch.testing.assert_close(adapter(tokens), expected, rtol=0, atol=0.05 * expected.std().item())


class TestAddedClasses:
    def grow(self, old, num_classes=5, old_classes=3, seed=2):
        """An adapter for more classes, with the weights of one for the old classes."""
        adapter = scatter(
            CrossAttentionAdapter(
                8, num_classes, per_class=True, num_heads=4, old_classes=old_classes
            ).double(),
            seed,
        )
        return adapter, adapter.load_state_dict(old.state_dict(), strict=False)

    def test_the_old_checkpoint_fits_by_name(self, tokens):
        old = make(3, per_class=True, num_heads=4)
        adapter, result = self.grow(old)
        assert not result.unexpected_keys
        new = {f'classes.1.{name}' for name in ('queries', 'weight', 'bias')}
        assert set(result.missing_keys) == new
        torch.testing.assert_close(adapter(tokens)[:, :3], old(tokens))
        assert adapter(tokens).shape == (4, 5)

    def test_the_new_classes_train_and_the_old_stay_bit_for_bit(self, tokens):
        adapter, _ = self.grow(make(3, per_class=True, num_heads=4))
        before = adapter(tokens).detach()
        tuned = {name for name, p in adapter.named_parameters() if p.requires_grad}
        assert tuned == {f'classes.1.{name}' for name in ('queries', 'weight', 'bias')}
        optimizer = torch.optim.AdamW(adapter.parameters(), lr=0.1, weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            target = torch.tensor([0, 3, 4, 4])
            nn.functional.cross_entropy(adapter(tokens), target).backward()
            optimizer.step()
        after = adapter(tokens).detach()
        assert torch.equal(after[:, :3], before[:, :3])
        assert (after[:, 3:] - before[:, 3:]).abs().min() > 0.01

    def test_they_can_be_added_again(self, tokens):
        old = make(3, per_class=True, num_heads=4)
        adapter, _ = self.grow(old)
        again, result = self.grow(adapter, 6, (3, 2), seed=3)
        assert not result.unexpected_keys
        assert {name.split('.')[1] for name in result.missing_keys} == {'2'}
        torch.testing.assert_close(again(tokens)[:, :5], adapter(tokens))
        tuned = {name for name, p in again.named_parameters() if p.requires_grad}
        assert tuned == set(result.missing_keys)

    def test_nothing_is_frozen_that_was_not_loaded(self, tokens):
        adapter = CrossAttentionAdapter(8, 5, per_class=True, num_heads=4, old_classes=3).double()
        with pytest.raises(RuntimeError, match='weights are not loaded: set load_from'):
            adapter(tokens)
        adapter.eval()(tokens)
        plain = make(5, num_heads=4).state_dict()
        with pytest.raises(
            CheckpointError, match=r'old_classes=3 .*missing: .*classes\.0\.queries'
        ):
            load_state_dict(adapter, plain)
        part = {'norm.weight': torch.full((8,), 3.0).double()}
        assert 'classes.0.queries' in adapter.load_state_dict(part, strict=False).missing_keys
        assert (adapter.norm.weight == 3).all()
        with pytest.raises(RuntimeError, match='weights are not loaded'):
            adapter.train()(tokens)
        with pytest.raises(CheckpointError, match=r'queries \(2, 8\) instead of \(3, 8\)'):
            self.grow(make(2, per_class=True, num_heads=4))


ERRORS = [
    (dict(num_heads=3), r'num_heads=3 .* must divide its width, embed_dims=8'),
    (dict(embed_dims=6, num_heads=4), r'num_heads=4 .* embed_dims=6'),
    (dict(num_queries=0), r'num_queries=0 must be at least 1'),
    (dict(num_queries=2, per_class=True), r'num_queries=2 .* every class has one query'),
    (dict(old_classes=2), r'old_classes=2 needs per_class=True'),
    (dict(old_classes=5, per_class=True), r'old_classes=5 must .* less than num_classes=5'),
    (dict(old_classes=-1, per_class=True), r'old_classes=-1 must be positive'),
    (dict(old_classes=(3, 0), per_class=True), r'old_classes=\(3, 0\) must be positive'),
]


@pytest.mark.parametrize(('form', 'message'), ERRORS)
def test_errors(form, message):
    with pytest.raises(ValueError, match=message):
        CrossAttentionAdapter(8, 5, **form)
