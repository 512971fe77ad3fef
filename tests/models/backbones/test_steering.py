"""The steering loop and its promises, on the smallest possible backbone."""

import pytest
import torch
from smallest_backbone import DEPTH, Plain, image, loss, make
from torch import nn

from toast_mm.models.backbones.modes import set_modes

ROUTES = [('last', 'first'), ('middle', 'first'), ('last', 'middle'), (3, 1), (1, 0), (4, 3)]


def reference(backbone, x):
    """Two complete passes from the image, without shared blocks."""

    def run(signals):
        streams = [x @ backbone.stem.weight.T + backbone.stem.bias]
        for block, layer in enumerate(backbone.blocks):
            inner = streams[-1] + signals.get(block, 0)
            inner = inner @ layer.linear.weight.T + layer.linear.bias
            inner = (inner - layer.norm.running_mean) / (layer.norm.running_var + 1e-5).sqrt()
            inner = inner * layer.norm.weight + layer.norm.bias
            streams.append(streams[-1] + torch.tanh(inner))
        return streams

    read = run({})[backbone.route.feedback_from]
    signals = backbone.topdown(2 * read, 3 * read)
    streams = run(signals)
    return tuple(backbone.out_norm(streams[block + 1]) for block in backbone.out_indices)


@pytest.mark.parametrize('frozen', [True, False])
@pytest.mark.parametrize(('source', 'target'), ROUTES)
def test_values_and_gradients(source, target, frozen):
    backbone = make(source, target, frozen=frozen, out_indices=range(DEPTH)).eval()
    outputs, expected = backbone(image()), reference(backbone, image())
    torch.testing.assert_close(outputs, expected)
    trained = [value for value in backbone.parameters() if value.requires_grad]
    torch.testing.assert_close(
        torch.autograd.grad(loss(outputs), trained), torch.autograd.grad(loss(expected), trained)
    )


@pytest.mark.parametrize(
    ('source', 'target', 'out_indices', 'expected'),
    [
        (
            'last',
            'first',
            [1, 3],
            'embed, plain 0, plain 1, plain 2, plain 3, read, '
            'steered 0, steered 1, steered 2, steered 3, format 1, format 3',
        ),
        (
            'middle',
            'first',
            [3],
            'embed, plain 0, plain 1, read, steered 0, steered 1, plain 2, plain 3, format 3',
        ),
        (
            'last',
            'middle',
            [0, 3],
            'embed, plain 0, plain 1, plain 2, plain 3, read, steered 2, steered 3, '
            'format 0, format 3',
        ),
        (3, 1, [1], 'embed, plain 0, plain 1, plain 2, read, steered 1, format 1'),
    ],
)
def test_runs_exactly_what_is_needed(source, target, out_indices, expected):
    backbone = make(source, target, out_indices=out_indices)
    backbone(image())
    assert ', '.join(what for what, _ in backbone.events) == expected


def test_modes_of_a_frozen_backbone():
    backbone = make('middle').train()
    tuned = {type(module).__name__ for module in backbone.topdown.modules()}
    backbone(image())
    for what, modes in backbone.events[:4]:
        assert modes == {'Steered', *tuned}, what
    for what, modes in backbone.events[4:8]:
        assert modes == {'Steered', 'DropPath', *tuned}, what
    assert len(backbone.events) == 9
    assert backbone.events[8] == ('format 3', {'Steered', *tuned})


def test_modes_of_a_backbone_that_trains():
    backbone = make('middle', frozen=False).train()
    tuned = {type(module).__name__ for module in backbone.topdown.modules()}
    # ModuleDict and the like are within the top-down module as well: ask for kinds that are not.
    bottom_up = {'Block', 'Linear', 'BatchNorm1d', 'Dropout', 'DropPath', 'LayerNorm'} - tuned
    backbone(image())
    for what, modes in backbone.events[:4]:
        assert not modes & bottom_up, what
    for what, modes in backbone.events[4:]:
        assert modes >= bottom_up, what


@pytest.mark.parametrize('frozen', [True, False])
def test_nothing_is_random_in_eval_mode(frozen):
    backbone = make(frozen=frozen).eval()
    backbone(image())
    assert all(modes == set() for _, modes in backbone.events)


@pytest.mark.parametrize('frozen', [True, False])
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('culprit', [None, 'first pass', 'topdown', 'second pass'])
def test_modes_are_restored(frozen, training, culprit):
    backbone = make(frozen=frozen).train(training)
    before = {name: module.training for name, module in backbone.named_modules()}
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) == (2 if culprit == 'second pass' else 1):
            raise RuntimeError(culprit)

    if culprit:
        (backbone.topdown if culprit == 'topdown' else backbone.blocks[1]).register_forward_hook(
            fail
        )
        with pytest.raises(RuntimeError, match=culprit):
            backbone(image())
    else:
        backbone(image())
    assert {name: module.training for name, module in backbone.named_modules()} == before


def test_set_modes_leaves_the_others_and_the_children_alone():
    modules = nn.Sequential(nn.Sequential(nn.ReLU()), nn.ReLU(), nn.ReLU().eval())
    outer, on, off = modules
    with set_modes({outer: False, on: True, off: True}):
        assert [outer.training, outer[0].training, on.training, off.training] == [
            False,
            True,
            True,
            True,
        ]
    assert [outer.training, outer[0].training, on.training, off.training] == [
        True,
        True,
        True,
        False,
    ]


def test_first_pass_records_a_graph_only_if_something_in_it_trains():
    frozen, trains = make(), make(frozen=False)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(saved.append, lambda x: x):
        frozen.topdown.register_forward_pre_hook(lambda *_: saved.append('topdown'))
        frozen(image())
    assert saved[0] == 'topdown'  # nothing was kept for a backward pass before it
    assert len(saved) > 1
    assert not frozen.z.requires_grad
    trains(image())
    assert trains.z.requires_grad


@pytest.mark.parametrize('removed', ['never built', 'afterwards'])
def test_without_topdown_it_is_its_parent(removed):
    plain = make(cls=Plain, out_indices=[0, 3])
    plain.eval()  # mmpretrain's returns None
    backbone = make(None if removed == 'never built' else 'last', out_indices=[0, 3]).eval()
    backbone.topdown = None
    backbone.load_state_dict(plain.state_dict())
    assert list(backbone.state_dict()) == list(plain.state_dict())
    outputs, expected = backbone(image()), plain(image())
    assert len(outputs) == len(expected) == 2
    assert all(map(torch.equal, outputs, expected))
    plain_pass = ['embed', 'plain 0', 'format 0', 'plain 1', 'plain 2', 'plain 3', 'format 3']
    assert [event for event, _ in backbone.events] == plain_pass


def test_nothing_runs_above_the_last_output():
    backbone = make(None, out_indices=[1]).eval()
    backbone(image())
    events = [event for event, _ in backbone.events]
    assert events == ['embed', 'plain 0', 'plain 1', 'format 1']
