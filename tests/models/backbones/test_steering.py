"""The loop and what it promises, on the smallest backbone there can be."""

import copy
import pickle

import pytest
import torch
from mmcv.cnn.bricks import DropPath
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import nn

from toast_mm.checkpoint import CheckpointError
from toast_mm.models.backbones.steering import SteeredBackbone, set_modes
from toast_mm.topdown import FeatureSelection, FeedbackRoute, LinearFeedback, TopDown

DIM = 4
DEPTH = 4
ROUTES = [('last', 'first'), ('middle', 'first'), ('last', 'middle'), (3, 1), (1, 0), (4, 3)]


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        self.norm = nn.BatchNorm1d(dim)  # has running statistics
        self.dropout = nn.Dropout(0.5)
        self.drop_path = DropPath(0.5)

    def forward(self, x, signal=None):
        inner = x if signal is None else x + signal
        inner = self.norm(self.linear(inner).transpose(1, 2)).transpose(1, 2)
        return x + self.drop_path(self.dropout(torch.tanh(inner)))


class Plain(BaseBackbone):
    """What mmpretrain would have."""

    def __init__(self, dim=DIM, depth=DEPTH, out_indices=(DEPTH - 1,), init_cfg=None):
        super().__init__(init_cfg)
        self.stem = nn.Linear(3, dim)
        self.blocks = nn.ModuleList(Block(dim) for _ in range(depth))
        self.out_norm = nn.LayerNorm(dim)
        self.out_indices = list(out_indices)

    def forward(self, image):
        outputs, stream = [], self.stem(image)
        for index, block in enumerate(self.blocks):
            stream = block(stream)
            if index in self.out_indices:
                outputs.append(self.out_norm(stream))
        return tuple(outputs)


class Steered(SteeredBackbone, Plain):
    new_modules = ('out_norm',)

    def __init__(self, source='last', target='first', pretuned=None, frozen=True, **kwargs):
        super().__init__(**kwargs)
        self.events = []
        self.depth = len(self.blocks)
        topdown = None
        if source is not None:
            self.route = FeedbackRoute(len(self.blocks), source, target)
            dim = self.stem.out_features
            topdown = TopDown(FeatureSelection(dim), LinearFeedback(dim, self.route.receivers))
        self.steer(topdown, pretuned, frozen)

    def embed(self, image):
        self.events.append(('embed', self.modes()))
        return self.stem(image), 'context'

    def run_block(self, block, stream, signal=None):
        kind = 'plain' if signal is None else 'steered'
        self.events.append((f'{kind} {block}', self.modes()))
        return self.blocks[block](stream, signal)

    def read_out(self, stream):
        self.events.append(('read', self.modes()))
        self.z = 2 * stream
        return self.z, 3 * stream

    def format_output(self, block, stream, context):
        assert context == 'context'
        self.events.append((f'format {block}', self.modes()))
        return self.out_norm(stream)

    def block_modules(self, block):
        return [self.blocks[block]]

    def fold_feedback(self, feedback, transform):
        raise NotImplementedError

    def signal_ratio(self, block, stream, signal):
        return (signal.norm() / stream.norm()).item()

    def modes(self):
        """Which kinds of modules are in training mode."""
        return {type(module).__name__ for module in self.modules() if module.training}


def make(*args, cls=Steered, **kwargs):
    torch.manual_seed(0)
    backbone = cls(*args, **kwargs).double()
    for parameter in backbone.parameters():
        nn.init.normal_(parameter)
    return backbone


def image(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 5, 3, dtype=torch.double, generator=generator)


def reference(backbone, x):
    """Two whole passes from the image, without any sharing."""

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


def loss(outputs):
    return sum((output * (2 + index)).sin().sum() for index, output in enumerate(outputs))


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


def frozen_state(backbone):
    """Names of parameters that train, and of modules in training mode."""
    parameters = {name for name, value in backbone.named_parameters() if value.requires_grad}
    return parameters, {name for name, module in backbone.named_modules() if module.training}


def test_frozen_survives_train():
    backbone = make()
    names = {name for name, _ in backbone.named_parameters()}
    tuned = {name for name in names if name.startswith(('topdown.', 'out_norm.'))}
    in_training = {
        name for name, _ in backbone.named_modules() if name.split('.')[0] in ('', 'topdown')
    }
    assert len(tuned) == 2 + 2 * DEPTH + 2
    assert backbone.train() is backbone
    assert frozen_state(backbone) == (tuned, in_training)
    backbone.eval()
    assert frozen_state(backbone) == (tuned, set())
    nn.Sequential(backbone).train()  # as a part of a model
    assert frozen_state(backbone) == (tuned, in_training)


def test_frozen_is_not_touched_by_training():
    backbone = make().train()
    before = copy.deepcopy(backbone.state_dict())
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1, weight_decay=0.1)
    for seed in range(2):
        optimizer.zero_grad()
        loss(backbone(image(seed))).backward()
        optimizer.step()
    for name, value in backbone.state_dict().items():
        tuned = name.startswith(('topdown.', 'out_norm.'))
        assert value.equal(before[name]) is not tuned, name


def test_unfrozen_trains_all_of_it():
    backbone = make(frozen=False)
    parameters, in_training = frozen_state(backbone.train())
    assert parameters == {name for name, _ in backbone.named_parameters()}
    assert in_training == {name for name, _ in backbone.named_modules()}


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


@pytest.mark.parametrize('clone', [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_are_whole_and_independent(clone):
    backbone = make().eval()
    twin = clone(backbone)
    assert all(map(torch.equal, twin(image()), backbone(image())))
    assert frozen_state(twin.train()) == frozen_state(backbone.train())
    state = {name: value * 2 for name, value in backbone.state_dict().items()}
    twin.load_state_dict(state)
    assert not torch.equal(twin.stem.weight, backbone.stem.weight)
    # The check of what is loaded belongs to the copy: it knows the copy's tensors.
    twin.stem = nn.Linear(3, DIM, bias=False).double()
    del state['stem.bias']
    twin.load_state_dict(state)
    with pytest.raises(CheckpointError, match=r'missing: stem\.bias'):
        backbone.load_state_dict(state)


# Checkpoints


def save(path, state, prefix=''):
    torch.save({'state_dict': {prefix + name: value for name, value in state.items()}}, path)
    return str(path)


def pretrained(filename, **kwargs):
    return dict(type='Pretrained', checkpoint=filename, **kwargs)


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_loads_a_plain_checkpoint(tmp_path, prefix):
    values = make(cls=Plain).state_dict()
    del values['out_norm.weight'], values['out_norm.bias']  # new: no checkpoint has them
    values['head.fc.weight'] = torch.zeros(2, DIM)  # not of the backbone
    filename = save(tmp_path / 'plain.pth', values, prefix)
    backbone = Steered(init_cfg=pretrained(filename, **({'prefix': prefix} if prefix else {})))
    before = copy.deepcopy(backbone.state_dict())
    backbone.init_weights()
    for name, value in backbone.state_dict().items():
        new = name.startswith(('topdown.', 'out_norm.'))
        torch.testing.assert_close(value, before[name] if new else values[name].to(value))


def refused(filename, **kwargs):
    """What a backbone says about a checkpoint, naming the file."""
    backbone = Steered(init_cfg=pretrained(filename, **kwargs))
    with pytest.raises(CheckpointError) as caught:
        backbone.init_weights()
    assert filename in str(caught.value)
    return str(caught.value)


def test_incomplete_checkpoint(tmp_path):
    values = make(cls=Plain).state_dict()
    total = len(values) - 2
    del values['blocks.1.linear.weight'], values['stem.bias']
    message = refused(save(tmp_path / 'incomplete.pth', values))
    assert f'covers {total - 2} of {total}' in message
    assert 'missing: stem.bias, blocks.1.linear.weight' in message


def test_wider_checkpoint(tmp_path):
    message = refused(save(tmp_path / 'wide.pth', make(cls=Plain, dim=6).state_dict()))
    assert 'stem.weight (6, 3) instead of (4, 3)' in message
    assert 'blocks.1.linear.weight (6, 6) instead of (4, 4)' in message


def test_deeper_checkpoint(tmp_path):
    message = refused(save(tmp_path / 'deep.pth', make(cls=Plain, depth=5).state_dict()))
    assert 'more than this backbone has' in message
    assert 'blocks.4.linear.weight' in message
    assert 'blocks.3.linear.weight' not in message


def test_shallower_checkpoint(tmp_path):
    message = refused(save(tmp_path / 'shallow.pth', make(cls=Plain, depth=3).state_dict()))
    assert 'missing: blocks.3.linear.weight' in message


def test_prefix_is_missing(tmp_path):
    values = make(cls=Plain).state_dict()
    message = refused(save(tmp_path / 'prefixed.pth', values, 'model.backbone.'))
    assert "prefix='model.backbone.'" in message
    assert 'stem.weight' in message
    assert 'blocks.1.norm.weight' in message and ' more; the file has' in message


def test_prefix_is_wrong(tmp_path):
    values = make(cls=Plain).state_dict()
    filename = save(tmp_path / 'prefixed.pth', values, 'backbone.')
    message = refused(filename, prefix='encoder.')
    assert 'encoder.' in message
    assert "stem.weight under prefix='backbone.'" in message


def test_prefix_is_too_much(tmp_path):
    filename = save(tmp_path / 'bare.pth', make(cls=Plain).state_dict())
    assert 'stem.weight under prefix=None' in refused(filename, prefix='backbone.')


def test_whole_models_are_checked_too():
    """Not only init_cfg: whatever loads a state dict, also without strictness."""
    model = nn.ModuleDict({'backbone': make()})
    state = model.state_dict()
    model.load_state_dict(state)
    del state['backbone.stem.bias']
    with pytest.raises(CheckpointError, match=r'missing: backbone\.stem\.bias'):
        model.load_state_dict(state, strict=False)
