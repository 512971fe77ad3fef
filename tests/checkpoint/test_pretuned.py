"""Files of pre-tuned top-down modules, and errors for those that do not fit."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.adapter import (
    RECORD,
    frozen_base,
    in_half,
    leave_out_base,
    make_record,
    read_record,
)
from toast_mm.checkpoint.fingerprint import fingerprint
from toast_mm.checkpoint.pretuned import save_pretuned
from toast_mm.files import WriteError
from toast_mm.models import TOASTViT

SIZES = dict(
    arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32),
    img_size=16,
    patch_size=8,
)


def make(seed=0, **kwargs):
    """A backbone whose base depends on the seed."""
    backbone = TOASTViT(**{**SIZES, **kwargs})
    torch.manual_seed(seed)
    for name, parameter in backbone.named_parameters():
        if not name.startswith('topdown.'):
            torch.nn.init.normal_(parameter)
    return backbone


@pytest.fixture
def base(tmp_path):
    """File of the base with seed 0."""
    backbone = make(feedback_from=None)
    torch.save(backbone.state_dict(), tmp_path / 'base.pth')
    return dict(type='Pretrained', checkpoint=str(tmp_path / 'base.pth'))


@pytest.fixture
def tuned():
    """A backbone with a tuned top-down module."""
    backbone = make(feedback_from='middle')
    for parameter in backbone.topdown.parameters():
        torch.nn.init.normal_(parameter)
    return backbone


@pytest.fixture
def file(tuned, tmp_path):
    save_pretuned(tuned, str(tmp_path / 'topdown.safetensors'))
    return str(tmp_path / 'topdown.safetensors')


def load(base, file, **kwargs):
    backbone = TOASTViT(
        **{**SIZES, 'feedback_from': 'middle', **kwargs}, init_cfg=base, pretuned=file
    )
    backbone.init_weights()
    return backbone


def refused(base, file, **kwargs):
    with pytest.raises(CheckpointError) as caught:
        load(base, file, **kwargs)
    message = str(caught.value)
    assert message.startswith(f'pretuned={file!r}: ')
    return message


def assert_loaded(backbone, tuned):
    for name, value in backbone.state_dict().items():
        assert value.equal(tuned.state_dict()[name]), name
    assert all(value.requires_grad for value in backbone.topdown.parameters())


def record_of(file):
    return read_record(load_file(file)[RECORD])


def as_before(file, path):
    """The older format, where the record was not among the weights."""
    weights = load_file(file)
    record = read_record(weights.pop(RECORD))
    steering = ('token_selection', 'value_bias_twice')
    old = {
        'route': record['route'],
        'selection': {name: record['signature'][name] for name in steering},
        'base': record['fingerprint'],
    }
    save_file(weights, path, {'topdown': json.dumps(old)})
    return str(path)


def test_content(base, tuned, tmp_path):
    tuned.pretrained = [base]
    path = str(tmp_path / 'a.safetensors')
    save_pretuned(tuned, path)
    assert load_file(path).keys() == {
        *(f'topdown.{name}' for name in tuned.topdown.state_dict()),
        'base_record',
    }
    frozen = {name: t for name, t in tuned.state_dict().items() if not name.startswith('topdown.')}
    del frozen['pos_embed']
    assert record_of(path) == dict(
        fingerprint=fingerprint(frozen),
        method='TOAST',
        signature=dict(
            token_selection=True, value_bias_twice=True, out_type='cls_token', out_indices=[3]
        ),
        route=dict(depth=4, feedback_from=2, feedback_to=0),
        as_in_the_base=['pos_embed'],
        init_cfg=[base],
        pretuned=None,
    )


def test_older_files_load_the_same(base, file, tuned, tmp_path):
    assert_loaded(load(base, as_before(file, tmp_path / 'before.safetensors')), tuned)


@pytest.mark.parametrize(
    'other, sentence',
    [
        (dict(feedback_from='last'), 'but this is FeedbackRoute(depth=4, feedback_from=4'),
        (dict(init_cfg=None), 'was tuned on the base with fingerprint'),
    ],
)
def test_older_files_are_refused_for_the_same(base, file, tmp_path, other, sentence):
    before = as_before(file, tmp_path / 'before.safetensors')
    backbone = TOASTViT(
        **{**SIZES, 'feedback_from': 'middle', 'init_cfg': base, **other}, pretuned=before
    )
    with pytest.raises(CheckpointError) as caught:
        backbone.init_weights()
    assert sentence in str(caught.value)


def test_a_task_file_brings_its_module(base, tuned, tmp_path):
    """It names the base that it leaves out."""
    tuned.pretrained = [base]
    weights = {f'backbone.{name}': tensor for name, tensor in tuned.state_dict().items()}
    names = frozen_base(tuned)
    leave_out_base(weights, names, make_record(tuned, names), 'backbone.')
    torch.save(dict(state_dict=weights), tmp_path / 'task.pth')
    assert_loaded(load(base, str(tmp_path / 'task.pth')), tuned)
    assert 'fingerprint' in refused(None, str(tmp_path / 'task.pth'))


def test_round_trip(base, file, tuned):
    assert_loaded(load(base, file), tuned)


def test_round_trip_without_token_selection(base, tmp_path):
    kwargs = dict(feedback_from=3, feedback_to=1, token_selection=False, value_bias_twice=False)
    tuned, file = make(**kwargs), str(tmp_path / 'a.safetensors')
    save_pretuned(tuned, file)
    backbone = load(base, file, **kwargs)
    for name, value in backbone.topdown.state_dict().items():
        assert value.equal(tuned.topdown.state_dict()[name]), name
    record = record_of(file)
    assert record['route'] == dict(depth=4, feedback_from=3, feedback_to=1)
    assert not record['signature']['token_selection']
    assert not record['signature']['value_bias_twice']


def test_a_file_of_this_project_reads_the_same_through_the_package(
    base, file, tuned, tmp_path, monkeypatch
):
    monkeypatch.setattr('toast_mm.checkpoint.io.WEIGHTS', tmp_path)
    assert_loaded(load(base, 'toast_mm://topdown.safetensors'), tuned)


def test_the_base_is_loaded_first(base, file, tuned):
    """Otherwise the module would be compared with a random base."""
    backbone = TOASTViT(**SIZES, feedback_from='middle', init_cfg=[base], pretuned=file)
    backbone.init_weights()
    assert_loaded(backbone, tuned)


def test_halved_file(base, file, tuned, tmp_path):
    half = in_half(load_file(file))
    save_file(half, tmp_path / 'half.safetensors')
    backbone = load(base, str(tmp_path / 'half.safetensors'))
    for name, value in backbone.topdown.state_dict().items():
        assert value.dtype == torch.float32
        assert value.equal(half[f'topdown.{name}'].float())


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.backbone.'])
def test_checkpoint_of_the_whole_model(base, tuned, tmp_path, prefix):
    state = {f'{prefix}{name}': value for name, value in tuned.state_dict().items()}
    if prefix:
        state['head.fc.weight'] = torch.zeros(2, 16)
    torch.save({'state_dict': state}, tmp_path / 'epoch_9.pth')
    assert_loaded(load(base, str(tmp_path / 'epoch_9.pth')), tuned)


@pytest.mark.parametrize('whole', [True, False])
def test_other_image_size(base, file, tuned, tmp_path, whole):
    if whole:
        file = str(tmp_path / 'epoch_9.pth')
        torch.save({'state_dict': tuned.state_dict(), 'meta': None}, file)
    backbone = load(base, file, img_size=32)
    assert backbone.pos_embed.shape[1] == 17
    for name, value in backbone.topdown.state_dict().items():
        assert value.equal(tuned.topdown.state_dict()[name]), name


@pytest.mark.parametrize('out_types', [('cls_token', 'avg_featmap'), ('avg_featmap', 'featmap')])
def test_norms_of_the_output_do_not_count(base, tmp_path, out_types):
    tuned = make(feedback_from='middle', out_type=out_types[0])
    torch.save(tuned.state_dict(), tmp_path / 'a.pth')
    save_pretuned(tuned, str(tmp_path / 'a.safetensors'))
    for file in ('a.pth', 'a.safetensors'):
        backbone = load(base, str(tmp_path / file), out_type=out_types[1])
        embedding = backbone.topdown.selection.task_embedding
        assert embedding.equal(tuned.topdown.selection.task_embedding)


def test_other_base(file, tuned, tmp_path):
    other = make(seed=1, feedback_from=None)
    torch.save(other.state_dict(), tmp_path / 'other.pth')
    message = refused(dict(type='Pretrained', checkpoint=str(tmp_path / 'other.pth')), file)
    recorded = record_of(file)['fingerprint']
    assert f'tuned on the base with fingerprint {recorded[:12]}' in message
    assert 'init_cfg' in message


def test_base_that_differs_in_one_bit(base, file, tmp_path):
    state = torch.load(base['checkpoint'], weights_only=True)
    weight = state['layers.3.ffn.layers.1.bias']
    weight[5] = torch.nextafter(weight[5], torch.tensor(9.0))
    torch.save(state, base['checkpoint'])
    assert 'fingerprint' in refused(base, file)


def test_no_base(file):
    assert 'fingerprint' in refused(None, file)


def test_other_base_in_a_checkpoint_of_the_whole_model(base, tmp_path):
    state = make(seed=1, feedback_from='middle').state_dict()
    torch.save({'state_dict': {f'backbone.{name}': v for name, v in state.items()}}, tmp_path / 'a')
    assert 'fingerprint' in refused(base, str(tmp_path / 'a'))


def test_other_route(base, file):
    message = refused(base, file, feedback_from='last')
    assert 'tuned for FeedbackRoute(depth=4, feedback_from=2, feedback_to=0)' in message
    assert 'but this is FeedbackRoute(depth=4, feedback_from=4, feedback_to=0)' in message


@pytest.mark.parametrize(
    ('source', 'expected'),
    [
        ('last', 'tuned for another route than'),
        (1, 'missing: feedback.layers.1.descend.weight, feedback.layers.1.emit.weight'),
    ],
)
def test_other_route_without_a_record(base, tmp_path, source, expected):
    torch.save(make(feedback_from=source).state_dict(), tmp_path / 'whole.pth')
    assert expected in refused(base, str(tmp_path / 'whole.pth'))


def test_other_width(base, file, tmp_path):
    wide = {'topdown.selection.task_embedding': torch.zeros(32)}
    save_file({**load_file(file), **wide}, tmp_path / 'wide.safetensors')
    message = refused(base, str(tmp_path / 'wide.safetensors'))
    assert 'selection.task_embedding (32,) instead of (16,)' in message


def test_deeper_backbone(base, file):
    """The base differs as well, but the error names the route."""
    deeper = dict(SIZES['arch'], num_layers=5)
    message = refused(None, file, arch=deeper)
    assert 'depth=4, feedback_from=2, feedback_to=0), but this is FeedbackRoute(depth=5' in message


def test_incomplete_file(base, file, tmp_path):
    weights = load_file(file)
    del weights['topdown.feedback.layers.0.emit.weight']
    save_file(weights, tmp_path / 'part.safetensors')
    message = refused(base, str(tmp_path / 'part.safetensors'))
    assert 'covers 5 of 6 tensors of the top-down module' in message
    assert 'missing: feedback.layers.0.emit.weight' in message


ROUTE = '"route": {"depth": 4, "feedback_from": 2, "feedback_to": 0}'


@pytest.mark.parametrize(
    'record',
    [
        '',
        '{"route": ',
        '[]',
        'null',
        '{}',
        f'{{{ROUTE}}}',
        f'{{{ROUTE}, "selection": {{}}}}',
        f'{{{ROUTE}, "selection": null, "base": ""}}',
        '{"route": {"width": 4}, "selection": {}, "base": ""}',
        '{"route": {"depth": 4, "feedback_from": 9}, "selection": {}, "base": ""}',
    ],
)
def test_damaged_metadata(base, file, tmp_path, record):
    weights = load_file(file)
    del weights[RECORD]
    save_file(weights, tmp_path / 'damaged.safetensors', {'topdown': record})
    message = refused(base, str(tmp_path / 'damaged.safetensors'))
    assert 'its metadata are damaged: ' in message


def test_truncated_file(base, file, tmp_path):
    content = (tmp_path / 'topdown.safetensors').read_bytes()
    (tmp_path / 'topdown.safetensors').write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=r'topdown\.safetensors is truncated'):
        load(base, file)


def test_plain_checkpoint(base):
    message = refused(base, base['checkpoint'])
    assert 'covers 0 of 6 tensors of the top-down module' in message


def test_module_without_its_base(base, tuned, tmp_path):
    state = {n: v for n, v in tuned.state_dict().items() if n.startswith('topdown.')}
    torch.save(state, tmp_path / 'bare.pth')
    save_file(state, tmp_path / 'bare.safetensors')
    for name in ('bare.pth', 'bare.safetensors'):
        assert 'does not say which base it was tuned on' in refused(base, str(tmp_path / name))


@pytest.mark.parametrize('other', [dict(feedback_from='last'), dict(init_cfg=None)])
def test_refusal_leaves_the_module_alone(base, file, other):
    kwargs = dict(feedback_from='middle', init_cfg=base, pretuned=file) | other
    backbone = TOASTViT(**SIZES, **kwargs)
    before = {name: value.clone() for name, value in backbone.topdown.state_dict().items()}
    with pytest.raises(CheckpointError):
        backbone.init_weights()
    assert all(v.equal(before[name]) for name, v in backbone.topdown.state_dict().items())


def test_other_form_of_selection_is_said(base, file, monkeypatch):
    said = []
    monkeypatch.setattr(
        'toast_mm.checkpoint.pretuned.print_log',
        lambda message, logger=None, level=logging.INFO: said.append((level, message)),
    )
    for name in ('token_selection', 'value_bias_twice'):
        load(base, file, **{name: False})
        assert said == [
            (logging.WARNING, f'{file} was tuned with {name}=True'),
            (logging.INFO, f'The top-down module is that of {file}'),
        ]
        said.clear()
    load(base, file)
    assert [level for level, _ in said] == [logging.INFO]


def test_nothing_to_save(tmp_path):
    with pytest.raises(ValueError, match='feedback_from is None'):
        save_pretuned(make(feedback_from=None), str(tmp_path / 'a.safetensors'))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('former', [None, b'former'])
def test_full_disk(tuned, tmp_path, monkeypatch, former):
    path = tmp_path / 'a.safetensors'
    if former:
        path.write_bytes(former)

    def fail(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('os.replace', fail)
    with pytest.raises(WriteError, match=rf'^{path} cannot be written: .*No space left'):
        save_pretuned(tuned, str(path))
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == ({path: former} if former else {})


def test_pretuned_needs_a_topdown_module():
    with pytest.raises(ValueError, match=r"pretuned='some\.pth'.*feedback_from is None"):
        TOASTViT(**SIZES, feedback_from=None, pretuned='some.pth')
