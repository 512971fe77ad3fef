import ast
import sys
from pathlib import Path

import pytest
import torch

import toast_mm.topdown
from toast_mm.topdown import FeatureSelection, LinearFeedback, TopDown

DIM = 4
FROZEN_WITHOUT_CHANNELS = [
    'feedback.layers.0.descend.weight',
    'feedback.layers.0.emit.weight',
    'feedback.layers.1.descend.weight',
    'feedback.layers.1.emit.weight',
    'selection.channel_transform',
]


def make(**kwargs):
    torch.manual_seed(0)
    topdown = TopDown(FeatureSelection(DIM), LinearFeedback(DIM, range(2)), **kwargs).double()
    for parameter in topdown.parameters():
        torch.nn.init.normal_(parameter)
    return topdown


def reference(topdown, z):
    """Sections 1.2 and 1.3 as one formula per signal, from the raw weights."""
    p = dict(topdown.named_parameters())
    xi, transform = p['selection.task_embedding'], p['selection.channel_transform']
    w1 = {block: p[f'feedback.layers.{block}.descend.weight'] for block in (0, 1)}
    w2 = {block: p[f'feedback.layers.{block}.emit.weight'] for block in (0, 1)}
    cosine = (z @ xi) / (z.pow(2).sum(-1) * xi.pow(2).sum()).sqrt()
    selected = torch.where(cosine > 0, cosine, 0.0).unsqueeze(-1) * z @ transform
    return {
        1: selected @ w1[1].T @ w2[1].T,
        0: selected @ w1[1].T @ w1[0].T @ w2[0].T,
    }


def loss(signals):
    return sum((signal * (block + 1)).sin().sum() for block, signal in signals.items())


def test_values_and_gradients():
    topdown = make()
    z = torch.randn(2, 5, DIM, dtype=torch.double, requires_grad=True)
    signals, expected = topdown(z), reference(topdown, z)
    torch.testing.assert_close(signals, dict(sorted(expected.items(), reverse=True)))

    inputs = (z, *topdown.parameters())  # nothing is detached, the read-out neither
    torch.testing.assert_close(
        torch.autograd.grad(loss(signals), inputs), torch.autograd.grad(loss(expected), inputs)
    )


def test_all_of_it_trains():
    assert all(parameter.requires_grad for parameter in make().parameters())


def test_without_channel_selection_only_the_task_embedding_trains():
    full, topdown = make(), make(channel_selection=False)
    frozen = [name for name, value in topdown.named_parameters() if not value.requires_grad]
    assert sorted(frozen) == FROZEN_WITHOUT_CHANNELS

    # Loaded values are used and stay: the forward pass and the embedding's gradient are unchanged.
    topdown.load_state_dict({name: value * 2 for name, value in full.state_dict().items()})
    before = {name: value.clone() for name, value in topdown.state_dict().items()}
    z = torch.randn(2, 5, DIM, dtype=torch.double)
    signals, expected = topdown(z), reference(topdown, z)
    torch.testing.assert_close(signals, dict(sorted(expected.items(), reverse=True)))
    embedding = topdown.selection.task_embedding
    (gradient,) = torch.autograd.grad(loss(expected), embedding)

    optimizer = torch.optim.SGD(topdown.parameters(), lr=0.1, weight_decay=0.1)
    loss(signals).backward()
    torch.testing.assert_close(embedding.grad, gradient)
    optimizer.step()
    changed = [name for name, value in topdown.state_dict().items() if value.ne(before[name]).any()]
    assert changed == ['selection.task_embedding']


FILES = sorted(Path(toast_mm.topdown.__path__[0]).glob('*.py'))


@pytest.mark.parametrize('path', FILES, ids=[path.name for path in FILES])
def test_is_torch_only(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported.update(alias.name.split('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1  # from within the folder
            imported.update([node.module.split('.')[0]] if not node.level else [])
    assert imported <= {'torch', *sys.stdlib_module_names}
