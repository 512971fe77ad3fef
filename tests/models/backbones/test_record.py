"""The content of a record, against a run step by step."""

import copy

import pytest
import torch

from toast_mm.models import TOASTViT

ROUTES = [('last', 'first'), ('middle', 'first'), ('last', 'middle'), (3, 1)]


def make(source='last', target='first', **kwargs):
    torch.manual_seed(0)
    backbone = TOASTViT(
        arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32),
        img_size=16,
        patch_size=8,
        feedback_from=source,
        feedback_to=target,
        **kwargs,
    ).double()
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return backbone.eval()


@pytest.fixture
def image():
    return torch.rand(2, 3, 16, 16, dtype=torch.double, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(('source', 'target'), ROUTES)
def test_content(source, target, image):
    backbone = make(source, target)
    route = backbone.route
    with torch.no_grad(), backbone.recording() as record:
        outputs = backbone(image)

        stream, first = backbone.embed(image)[0], {}
        for block in range(4):
            first[block] = stream = backbone.layers[block](stream)
        z = first[route.feedback_from - 1]
        z = backbone.ln1(z) if route.feedback_from == 4 else z
        signals = backbone.topdown(z)
    torch.testing.assert_close(record.z, z)
    assert record.first.context == (2, 2)
    assert set(record.signals) == set(record.inputs) == set(record.outputs) == set(route.receivers)
    assert set(record.first.streams) == set(range(-1, route.feedback_from))
    stream = first[route.feedback_to - 1] if route.feedback_to else backbone.embed(image)[0]
    for block in route.receivers:
        torch.testing.assert_close(record.signals[block], signals[block])
        torch.testing.assert_close(record.first.streams[block], first[block])
        torch.testing.assert_close(record.inputs[block], stream)
        stream = backbone.layers[block](stream, signals[block])
        torch.testing.assert_close(record.outputs[block], stream)
    for block in range(route.feedback_from, 4):
        stream = backbone.layers[block](stream)
        torch.testing.assert_close(record.second[block], stream)
    assert set(record.second) == set(range(route.feedback_to - 1, 4))
    torch.testing.assert_close(outputs, (backbone.ln1(stream)[:, 0],))


@pytest.mark.parametrize('out_indices', [(3,), (0, 2, 3), (2,)])
@pytest.mark.parametrize(('source', 'target'), ROUTES)
def test_first_pass_run_to_its_end(source, target, out_indices, image):
    """In training, drop path acts in the second pass only."""
    backbone = make(source, target, out_indices=out_indices, drop_path_rate=0.5, out_type='featmap')
    calls = []
    for block, layer in enumerate(backbone.layers):
        layer.register_forward_pre_hook(lambda *_, block=block: calls.append(block))
    modes = [module.training for module in backbone.train().modules()]
    with torch.no_grad(), backbone.recording() as record:
        backbone(image)
    calls.clear()
    with torch.no_grad():
        finished = backbone.finish_first_pass(record)
    assert calls == list(range(backbone.route.feedback_from, out_indices[-1] + 1))
    assert [module.training for module in backbone.modules()] == modes
    backbone.topdown = None
    expected = backbone.eval()(image)
    assert len(finished) == len(out_indices)
    torch.testing.assert_close(finished, expected)


def test_the_record_of_a_first_pass_can_be_finished_again(image):
    backbone = make('middle')
    with backbone.recording() as record:
        backbone(image)
    once, twice = (backbone.finish_first_pass(record) for _ in range(2))
    assert torch.equal(*once, *twice)
    assert set(record.first.streams) == {-1, 0, 1}


def test_outputs_below_the_last_receiver(image):
    backbone = make(out_indices=(1,))
    with torch.no_grad(), backbone.recording() as record:
        backbone(image)
    assert set(record.inputs) == set(record.outputs) == {0, 1}
    assert set(record.signals) == {0, 1, 2, 3}


def test_without_a_trace_nothing_is_kept(image):
    backbone = make()
    with backbone.recording() as record:
        backbone(image)
        kept = copy.copy(record.__dict__)
        backbone(2 * image)  # the record is that of the next forward, and not of a later one
    backbone(2 * image)
    assert record.__dict__.keys() == kept.keys()
    assert all(getattr(record, name) is value for name, value in kept.items())


def test_nested_traces_are_one(image):
    backbone = make()
    with backbone.recording() as outer:
        with backbone.recording() as inner:
            backbone(image)
        assert inner is outer
    with backbone.recording() as record:
        backbone(image)
    assert record is not outer
    torch.testing.assert_close(record.z, outer.z)


@pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize('call', [1, 6])  # in the first pass, in the second pass
def test_an_exception_ends_the_record(image, error, call):
    """Even if the context is not left, as in a hook that is not called after a failure."""
    backbone = make()
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) == call:
            raise error

    for layer in backbone.layers:
        layer.register_forward_hook(fail)
    with backbone.recording() as record:
        with pytest.raises(error):
            backbone(image)
        copy.deepcopy(backbone)  # which tensors with a graph would not allow
        backbone(image)
    assert len(record.outputs) == max(0, call - 5)


def test_a_plain_backbone_has_one_pass(image):
    backbone = make(None)
    with torch.no_grad(), backbone.recording() as record:
        (output,) = backbone(image)
    assert not record.signals and not record.inputs and not record.outputs and not record.second
    streams = record.first.streams
    assert set(streams) == {-1, 0, 1, 2, 3}
    torch.testing.assert_close(streams[-1], backbone.embed(image)[0])
    torch.testing.assert_close(backbone.ln1(streams[3])[:, 0], output)


@pytest.mark.parametrize('qkv_bias', [True, False])
@pytest.mark.parametrize('value_bias_twice', [True, False])
def test_signal_ratio(image, qkv_bias, value_bias_twice):
    """The bias counts as part of the values, even if it is added twice."""
    backbone = make(qkv_bias=qkv_bias, value_bias_twice=value_bias_twice)
    with torch.no_grad(), backbone.recording() as record:
        backbone(image)
        for block in range(4):
            layer = backbone.layers[block]
            x = layer.ln1(record.inputs[block])
            values = layer.attn.qkv(x)[..., -16:]
            added = record.signals[block] @ layer.attn.qkv.weight[-16:].T
            ratio = backbone.signal_ratio(block, record.inputs[block], record.signals[block])
            assert ratio == pytest.approx((added.norm() / values.norm()).item(), rel=1e-12)


@pytest.mark.parametrize('dtype', [torch.float, torch.bfloat16])
def test_signal_ratio_in_other_precisions(image, dtype):
    backbone = make()
    with torch.no_grad(), backbone.recording() as record:
        backbone(image)
        expected = backbone.signal_ratio(1, record.inputs[1], record.signals[1])
        backbone.to(dtype)
        stream, signal = record.inputs[1].bfloat16(), record.signals[1].bfloat16()  # of autocast
        assert backbone.signal_ratio(1, stream, signal) == pytest.approx(expected, rel=0.02)
