"""What trains, what is frozen, and what is loaded."""

import copy
import pickle

import pytest
import torch
from mmengine.runner import load_checkpoint, load_state_dict
from smallest_backbone import DEPTH, DIM, Plain, Steered, image, loss, make
from torch import nn

from toast_mm.checkpoint import CheckpointError


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


def test_whole_models_are_checked_too(tmp_path):
    """Not only init_cfg: whoever has not asked for a part, also by mmengine, which only warns."""
    model = nn.ModuleDict({'backbone': make()})
    state = model.state_dict()
    model.load_state_dict(state)
    bias = state.pop('backbone.stem.bias')
    torch.save(state, tmp_path / 'part.pth')
    for load in (
        lambda: model.load_state_dict(state),
        lambda: load_state_dict(model, state),
        lambda: load_checkpoint(model, str(tmp_path / 'part.pth')),
    ):
        with pytest.raises(CheckpointError, match=r'missing: backbone\.stem\.bias'):
            load()
    part = {name: tensor + 1 for name, tensor in state.items()}
    keys = model.load_state_dict(part, strict=False)
    assert (keys.missing_keys, keys.unexpected_keys) == (['backbone.stem.bias'], [])
    assert torch.equal(model['backbone'].stem.bias, bias)
    for name in state:
        assert torch.equal(model.state_dict()[name], part[name])
