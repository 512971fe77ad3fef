"""Common tests of all families of backbones, also of other packages."""

import copy
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from small_backbones import KINDS, plain, tuned

from toast_mm.apis import MultiTask
from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.adapter import frozen_base, leave_out_base, make_record
from toast_mm.checkpoint.pretuned import save_pretuned
from toast_mm.engine import SteeringHealthHook
from toast_mm.engine.first_passes.cache import FirstPassCache, write
from toast_mm.visualization import attention_maps

kinds = pytest.mark.parametrize('kind', KINDS)
routes = pytest.mark.parametrize(
    ('source', 'target'), [('last', 'first'), ('middle', 'first'), ('last', 'middle')]
)


@pytest.fixture
def image():
    generator = torch.Generator().manual_seed(7)
    return torch.randn(2, 3, 32, 32, dtype=torch.double, generator=generator)


def steered(kind, source='last', target='first', **arguments):
    return tuned(kind, None, feedback_from=source, feedback_to=target, **arguments)


def build(kind, path, **arguments):
    """A backbone with other values, and a file of its base."""
    cls, _, sizes = KINDS[kind]
    base = {'type': 'Pretrained', 'checkpoint': str(path)}
    return cls(**sizes, init_cfg=base, **arguments).double().eval()


@pytest.fixture
def base(kind, tmp_path):
    torch.save(plain(kind).state_dict(), tmp_path / 'base.pth')
    return tmp_path / 'base.pth'


def spoil(base):
    """Change a weight of a base in its file."""
    weights = torch.load(base)
    name = next(name for name in weights if name.endswith('weight') and weights[name].ndim > 1)
    torch.save(weights | {name: 2 * weights[name]}, base)


@kinds
def test_without_feedback_it_is_its_parent(kind, image):
    backbone, parent = tuned(kind, None), plain(kind)
    assert backbone.state_dict().keys() == parent.state_dict().keys()
    assert all(map(torch.equal, backbone(image), parent(image)))


@routes
@kinds
def test_both_passes(kind, source, target, image):
    backbone = steered(kind, source, target)
    route, depth = backbone.route, backbone.depth
    stream, context = backbone.embed(image)
    entering, shared = {}, backbone.shared_arguments(context)
    for block in range(route.feedback_from):
        entering[block] = stream
        stream = backbone.run_block(block, stream, **shared)
    sizes = {block: entering[block].shape[-2:] for block in route.receivers}
    signals = backbone.topdown(*backbone.read_out(stream), sizes)
    stream = entering[route.feedback_to]
    for block in range(route.feedback_to, depth):
        stream = backbone.run_block(block, stream, signals.get(block), **shared)
    expected = backbone.format_output(depth - 1, stream, context)
    torch.testing.assert_close(backbone(image)[-1], expected, rtol=0, atol=0)
    assert not torch.allclose(expected, plain(kind)(image)[-1])


@routes
@kinds
def test_a_first_pass_that_is_handed_over_does_not_run_again(
    kind, source, target, image, monkeypatch
):
    backbone = steered(kind, source, target)
    expected, first = backbone(image), backbone.run_first_pass(image)
    ran, run_block = [], backbone.run_block
    monkeypatch.setattr(
        backbone, 'run_block', lambda n, *rest, **kw: ran.append(n) or run_block(n, *rest, **kw)
    )
    with backbone.using(first):
        assert all(map(torch.equal, backbone(image), expected))
    assert ran == list(backbone.route.second_pass)


@routes
@kinds
def test_a_first_pass_on_disk(kind, source, target, image, tmp_path):
    backbone, images = steered(kind, source, target).float(), image.float()
    with torch.no_grad():
        expected = backbone(images)
        write(tmp_path / 'cache', 2, [(images, backbone.run_first_pass(images))], 'float32', True)
    first = FirstPassCache(tmp_path / 'cache').read([1, 0])
    with torch.no_grad(), backbone.using(replace(first, images=images[[1, 0]])):
        torch.testing.assert_close(backbone(images[[1, 0]]), tuple(o[[1, 0]] for o in expected))


@kinds
def test_the_health_of_all_receivers_is_reported(kind, image):
    backbone, scalars = steered(kind).train(), {}
    runner = SimpleNamespace(
        model=SimpleNamespace(backbone=backbone),
        rank=0,
        iter=0,
        logger=mock.Mock(),
        visualizer=SimpleNamespace(add_scalars=lambda values, step: scalars.update(values)),
    )
    hook = SteeringHealthHook(max_masked=1.0)
    hook.before_train_iter(runner)
    backbone(image)
    hook.after_train_iter(runner)
    blocks = {f'steering/signal_{block}' for block in backbone.route.receivers}
    assert scalars.keys() == {'steering/mask', 'steering/masked'} | blocks
    assert all(value > 0 for name, value in scalars.items() if name != 'steering/masked')
    assert not runner.logger.warning.called


@kinds
def test_a_training_step_changes_only_the_top_down_module(kind, image):
    backbone = steered(kind).train()
    before = copy.deepcopy(backbone.state_dict())
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=0.01, weight_decay=0.1)
    backbone(image)[-1].square().sum().backward()
    optimizer.step()
    changed = {n for n, t in backbone.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == {n for n, _ in backbone.named_parameters() if n.startswith('topdown.')}


@routes
@kinds
def test_folded(kind, source, target, image):
    backbone, other = steered(kind, source, target), steered(kind, source, target)
    expected = backbone(image)
    folded = backbone.fold()(image)
    torch.testing.assert_close(folded, expected)
    other.load_state_dict(backbone.state_dict())
    assert other.folded and all(map(torch.equal, other(image), folded))


@kinds
def test_low_rank_updates_are_merged_and_folded(kind, image):
    backbone = steered(kind, lite=dict(rank=2))
    trains = {name for name, p in backbone.named_parameters() if p.requires_grad}
    path = {name for name in trains if name.startswith('topdown.feedback.')}
    assert path and all('.updates.' in name for name in path)
    assert all(name.startswith('topdown.') for name in trains)
    expected, twin = backbone(image), copy.deepcopy(backbone)
    assert not torch.allclose(expected[-1], steered(kind)(image)[-1])  # the same without updates
    torch.testing.assert_close(twin.fold()(image), expected)
    torch.testing.assert_close(backbone.merge()(image), expected)
    toast = steered(kind)
    toast.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(toast(image), expected)


@kinds
def test_the_record(kind, image):
    backbone = steered(kind)
    with torch.no_grad(), backbone.recording() as record:
        backbone(image)
    assert set(record.signals) == set(record.inputs) == set(backbone.route.receivers)
    for block, signal in record.signals.items():
        assert backbone.signal_ratio(block, record.inputs[block], signal) > 0
    finished = backbone.finish_first_pass(record)
    torch.testing.assert_close(finished[-1], plain(kind)(image)[-1])


@torch.no_grad()
@pytest.mark.parametrize('kind', [kind for kind in KINDS if kind != 'mixer'])
def test_maps_of_where_it_looks(kind, image):
    """Of the last block that is in both passes: block 0."""
    backbone = steered(kind, 1, 0)
    (maps,) = (maps.mean() for maps in attention_maps(backbone, image).values())
    stream, context = backbone.embed(image)
    shared = backbone.shared_arguments(context)
    leaving = backbone.run_block(0, stream, **shared)
    z, features = backbone.read_out(leaving)
    signals = backbone.topdown(z, features, {0: stream.shape[-2:]})
    steered_map = backbone.run_block(0, stream, signals[0], **shared)
    tokens = {'vit': 1, 'timm': 5, 'eva': 1}
    if kind in tokens:
        first = second = backbone.attention(0, stream, context).mean(1)  # the signal is for values
    else:
        first, second = (energy.square().sum(1).sqrt() for energy in (leaving, steered_map))
    mask = F.cosine_similarity(z, backbone.topdown.selection.task_embedding, dim=-1).clamp(min=0)
    mask = mask[:, tokens[kind] :].unflatten(1, (4, 4)) if kind in tokens else mask
    assert maps.what == ('attention' if kind in tokens else 'energy')
    given = (maps.mask, maps.first[:, 0], maps.second[:, 0])
    for found, expected in zip(given, (mask, first, second), strict=True):
        torch.testing.assert_close(found, expected)


@kinds
def test_pretuned(kind, base, tmp_path):
    source, file = steered(kind), str(tmp_path / 'topdown.safetensors')
    save_pretuned(source, file)
    backbone = build(kind, base, pretuned=file)
    backbone.init_weights()
    for name, tensor in source.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], tensor), name
    spoil(base)
    with pytest.raises(CheckpointError, match='tuned on the base with fingerprint'):
        build(kind, base, pretuned=file).init_weights()


@kinds
def test_task_file(kind, base, image):
    """It finds its base, and another base is an error."""
    source = build(kind, base)
    source.init_weights()
    for parameter in source.topdown.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    weights, names = dict(source.state_dict()), frozen_base(source)
    leave_out_base(weights, names, make_record(source, names), '')
    held = weights.keys() - {'base_record', *source.resized_parameters}
    assert all(name.startswith('topdown.') for name in held)
    cls, _, sizes = KINDS[kind]
    backbone = cls(**sizes).double().eval()
    backbone.load_state_dict(weights)
    assert all(map(torch.equal, backbone(image), source(image)))
    spoil(base)
    with pytest.raises(CheckpointError, match='the task file was tuned on the base with'):
        cls(**sizes).double().load_state_dict(weights)


others = pytest.mark.parametrize(
    ('kind', 'other'),
    [
        ('timm', 'stages'),
        ('timm', 'vit'),
        ('timm', 'swin'),
        ('timm', 'eva'),
        ('stages', 'timm'),
        ('stages', 'convnext'),
        ('swin', 'timm'),
        ('batch norm', 'timm'),
        ('vit', 'stages'),
        ('convnext', 'eva'),
    ],
)


@others
def test_weights_of_another_family_are_refused(kind, other, tmp_path):
    torch.save(plain(other).state_dict(), tmp_path / 'base.pth')
    like = ('timm', 'eva'), ('swin', 'timm')  # some names are the same
    says = (
        r'covers \d+ of \d+ tensors' if (kind, other) in like else 'is of another kind of backbone'
    )
    with pytest.raises(
        CheckpointError, match=rf'init_cfg with .*base\.pth.*: the checkpoint {says}'
    ):
        build(kind, tmp_path / 'base.pth').init_weights()


@others
def test_task_files_of_another_family_are_refused(kind, other, tmp_path):
    torch.save(plain(other).state_dict(), tmp_path / 'base.pth')
    source = build(other, tmp_path / 'base.pth')
    source.init_weights()
    weights, names = dict(source.state_dict()), frozen_base(source)
    leave_out_base(weights, names, make_record(source, names), '')
    cls, _, sizes = KINDS[kind]
    with pytest.raises(
        CheckpointError, match=r'the task file (is of a backbone with|needs its base)'
    ):
        cls(**sizes).double().load_state_dict(weights)


@kinds
def test_several_tasks_share_a_first_pass(kind, monkeypatch):
    cls, _, sizes = KINDS[kind]
    width = plain(kind)(torch.zeros(1, 3, 32, 32, dtype=torch.double))[-1].shape[1]
    tasks, ran = MultiTask(), []
    for name, seed in (('first', 1), ('second', 2)):
        model = MODELS.build(
            dict(
                type='mmpretrain.ImageClassifier',
                backbone=dict(type=cls, **sizes),
                head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=width),
            )
        )
        model.backbone.load_state_dict(plain(kind).float().state_dict(), strict=False)
        torch.manual_seed(seed)
        torch.nn.init.normal_(model.backbone.topdown.selection.task_embedding)
        run_block = model.backbone.run_block
        monkeypatch.setattr(
            model.backbone,
            'run_block',
            lambda n, *rest, run_block=run_block, **kw: ran.append(n) or run_block(n, *rest, **kw),
        )
        tasks.add_model(name, model)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    batch = dict(inputs=images, data_samples=[DataSample(), DataSample()])
    alone = {name: tasks(batch, [name])[name] for name in tasks}
    ran.clear()
    together = tasks(batch)
    assert len(ran) == 3 * tasks['first'].backbone.depth  # 1 + T passes
    for name in tasks:
        for one, other in zip(together[name], alone[name], strict=True):
            torch.testing.assert_close(one.pred_score, other.pred_score)
