import copy
import json
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel

from toast_mm.engine import NotFiniteError, Runner, SteeringHealthHook
from toast_mm.models import TOASTViT

FIXED = dict(optim_wrapper__optimizer=dict(type='SGD', lr=0.0))
STRONG = dict(feedback_gain=2.0)


def hook(**kwargs) -> dict:
    return dict(type='toast_mm.SteeringHealthHook', **{'interval': 1, **kwargs})


def reported(work_dir) -> list[dict]:
    """Scalars that the hook adds to the losses."""
    files = work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [line for line in lines if any(key.startswith('steering/') for key in line)]


def backbone_of(model):
    return getattr(model, 'module', model).backbone


class Watch(Hook):
    """Computes the numbers of every step from the inputs of the module and of the layers."""

    def __init__(self) -> None:
        self.steps = []

    def before_train(self, runner) -> None:
        backbone = backbone_of(runner.model)
        backbone.topdown.register_forward_pre_hook(self.see_read_out)
        for block, layer in enumerate(backbone.layers):
            layer.register_forward_pre_hook(
                lambda layer, args, block=block: self.see_block(block, layer, *args[:2])
            )

    @torch.no_grad()
    def see_read_out(self, topdown, args) -> None:
        z, xi = args[0], topdown.selection.task_embedding
        cosine = (z * xi).sum(-1) / (z.norm(dim=-1) * xi.norm())
        self.steps.append(
            {
                'steering/mask': cosine.clamp(min=0).mean().item(),
                'steering/masked': (cosine <= 0).float().mean().item(),
            }
        )

    @torch.no_grad()
    def see_block(self, block, layer, stream, signal) -> None:
        if signal is not None:
            weight, bias = layer.attn.qkv.weight[-16:], layer.attn.qkv.bias[-16:]
            values = layer.ln1(stream) @ weight.T + bias
            ratio = (signal @ weight.T).norm() / values.norm()
            self.steps[-1][f'steering/signal_{block}'] = ratio.item()


class Embed(Hook):
    """Set the task embedding to a multiple of the mean token, and feedback matrices to nothing."""

    priority = 'LOWEST'

    def __init__(self, sign: float, emit: float = 1.0) -> None:
        self.sign, self.emit = sign, emit

    def before_train(self, runner) -> None:
        topdown = backbone_of(runner.model).topdown
        topdown.selection.task_embedding.data.mul_(self.sign)
        for layer in topdown.feedback.layers.values():
            layer.emit.weight.data.mul_(self.emit)


@pytest.fixture
def warned(monkeypatch):
    """Warnings of steering."""
    messages = []
    build = Runner.build_logger

    def build_logger(self, *args, **kwargs):
        logger = build(self, *args, **kwargs)
        monkeypatch.setattr(logger, 'warning', warn)
        return logger

    def warn(text, *args):
        if 'steering' in text:
            messages.append(text)

    monkeypatch.setattr(Runner, 'build_logger', build_logger)
    return messages


@pytest.mark.parametrize(
    ('source', 'target', 'receivers'),
    [('last', 'first', [0, 1, 2, 3]), ('last', 'middle', [2, 3]), (3, 1, [1, 2])],
)
def test_numbers(steered_config, run, tmp_path, capsys, source, target, receivers):
    backbone = dict(feedback_from=source, feedback_to=target, **STRONG)
    cfg = steered_config(tmp_path, hook(), backbone=backbone, log_level='INFO', **FIXED)
    run(cfg, watch := Watch())
    assert watch.steps[0] != watch.steps[1]
    for number, (line, step) in enumerate(zip(reported(tmp_path), watch.steps, strict=True), 1):
        assert line == pytest.approx({**step, 'step': number}, rel=1e-4)
    assert set(watch.steps[0]) == {
        *('steering/mask', 'steering/masked'),
        *(f'steering/signal_{block}' for block in receivers),
    }
    first = watch.steps[0]
    ratios = ', '.join(f'{block}: {first[f"steering/signal_{block}"]:.2g}' for block in receivers)
    assert (
        f'steering: mean mask {first["steering/mask"]:.3f}, {first["steering/masked"]:.1%} of the '
        f'tokens at mask 0, strength of the signal by block {ratios}\n'
    ) in capsys.readouterr().out


def test_only_at_the_interval(steered_config, run, tmp_path, monkeypatch):
    recording, recorded = TOASTViT.recording, []
    monkeypatch.setattr(TOASTViT, 'recording', lambda self: recorded.append(1) or recording(self))
    run(steered_config(tmp_path, hook(interval=2), train_cfg__max_iters=5, **FIXED))
    assert [line['step'] for line in reported(tmp_path)] == [1, 3, 5]
    assert len(recorded) == 3


def test_default_interval(steered_config, run, tmp_path):
    assert SteeringHealthHook().interval == 100
    run(steered_config(tmp_path, dict(type='toast_mm.SteeringHealthHook')))
    assert [line['step'] for line in reported(tmp_path)] == [1]


def test_training_stays_as_it_is(steered_config, run, tmp_path):
    weights = []
    for hooks in ([], [hook(interval=2)]):
        kwargs = dict(backbone=dict(drop_path_rate=0.5, **STRONG), train_cfg__max_iters=4)
        runner = run(steered_config(tmp_path / str(len(hooks)), *hooks, **kwargs))
        weights.append(runner.model.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


INIT = dict(type='toast_mm.MeanTokenInitHook')


@pytest.mark.parametrize(
    ('embed', 'dead'),
    [
        (Embed(1.0), False),
        (Embed(-1.0), True),  # no token is selected
        (Embed(1.0, emit=0.0), True),  # tokens are selected, but there is no signal
    ],
)
def test_warns_once_if_steering_is_dead(steered_config, run, tmp_path, warned, embed, dead):
    run(steered_config(tmp_path, INIT, hook(), backbone=STRONG, **FIXED), embed)
    assert len(reported(tmp_path)) == 3
    assert len(warned) == dead
    for message in warned:
        assert message.startswith('steering is dead: ')
        for remedy in ('pretuned=', 'toast_mm.MeanTokenInitHook', 'feedback_gain'):
            assert remedy in message


def test_nan_is_not_a_weak_signal(steered_config, run, tmp_path, warned):
    class Spoil(Hook):
        priority = 'LOWEST'

        def before_train(self, runner) -> None:
            backbone_of(runner.model).topdown.selection.task_embedding.data.fill_(torch.nan)

    with pytest.raises(NotFiniteError):
        run(steered_config(tmp_path, hook(), backbone=STRONG, **FIXED), Spoil())
    assert [message.split(';')[0] for message in warned] == [
        'steering: mask or signal is not finite in iteration 1'
    ]
    assert 'feedback_gain' not in warned[0]


def test_warns_late_too(steered_config, run, tmp_path, warned):
    class Die(Hook):
        def after_train_iter(self, runner, batch_idx, **kwargs) -> None:
            backbone_of(runner.model).topdown.selection.task_embedding.data.neg_()

    run(steered_config(tmp_path, INIT, hook(interval=2), backbone=STRONG, **FIXED), Die())
    assert len(warned) == 1  # after the first step or after the third


def test_thresholds(steered_config, run, tmp_path, warned):
    """Steering is dead above one limit or below the other, and alive at the limits."""
    kwargs = dict(backbone=STRONG, train_cfg__max_iters=1, **FIXED)
    run(steered_config(tmp_path / 'plain', hook(), **kwargs), watch := Watch())
    step = watch.steps[0]
    masked = step['steering/masked']
    strongest = max(value for name, value in step.items() if 'signal' in name)
    assert 0 < masked < 1
    for number, (limits, dead) in enumerate(
        [
            (dict(max_masked=masked + 1e-3), False),
            (dict(max_masked=masked - 1e-3), True),
            (dict(min_signal=strongest * 0.999), False),
            (dict(min_signal=strongest * 1.001), True),
        ]
    ):
        warned.clear()
        run(steered_config(tmp_path / str(number), hook(**limits), **kwargs))
        assert len(warned) == dead, limits


def test_defaults_warn_only_of_what_is_dead():
    health = SteeringHealthHook()
    assert (health.max_masked, health.min_signal) == (0.99, 1e-3)


def test_every_token_at_mask_0_may_be_allowed(steered_config, run, tmp_path, warned):
    limits = dict(max_masked=1.0, min_signal=0.0)
    run(steered_config(tmp_path, INIT, hook(**limits), backbone=STRONG, **FIXED), Embed(-1.0))
    assert reported(tmp_path)[0]['steering/masked'] == 1
    assert not warned


def test_plain_backbones_are_ignored(steered_config, run, tmp_path, warned):
    run(steered_config(tmp_path, hook(), backbone=dict(feedback_from=None)))
    assert not reported(tmp_path) and not warned


def test_models_without_a_backbone_are_ignored(toy_config, run, tmp_path):
    run(toy_config(tmp_path, custom_hooks=[hook()], train_cfg__max_iters=2))
    assert not reported(tmp_path)


def test_a_wrapped_model(steered_config, run, tmp_path, one_process_group):
    cfg = steered_config(tmp_path, hook(), backbone=STRONG, **FIXED)
    run(cfg, watch := Watch(), wrap=MMDistributedDataParallel)
    for line, step in zip(reported(tmp_path), watch.steps, strict=True):
        assert {name: line[name] for name in step} == pytest.approx(step, rel=1e-4)


def test_together_with_the_losses_of_pretuning(steered_config, run, tmp_path):
    cfg = steered_config(tmp_path, hook(interval=2), backbone=STRONG, **FIXED)
    cfg.model.type, cfg.model.both_passes = 'toast_mm.PretuneClassifier', True
    cfg.model.variational_weight = 0.5
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=1)
    runner = run(cfg, watch := Watch())
    lines = reported(tmp_path)
    assert [line['step'] for line in lines] == [1, 3]
    assert lines[1]['steering/mask'] == pytest.approx(watch.steps[2]['steering/mask'], rel=1e-4)
    history = runner.message_hub.get_scalar('train/loss_var').data[0]
    assert len(history) == 3 and (history > 0).all()


@pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize('call', [1, 6])  # in the first pass, in the second pass
def test_a_failing_step_leaves_nothing_switched_on(steered_config, run, tmp_path, error, call):
    class Fail(Hook):
        def before_train(self, runner) -> None:
            calls = []

            def fail(*_):
                calls.append(1)
                if len(calls) == call:
                    raise error

            self.backbone = runner.model.backbone
            for layer in self.backbone.layers:
                layer.register_forward_pre_hook(fail)

    with pytest.raises(error):
        run(steered_config(tmp_path, hook()), failing := Fail())
    copy.deepcopy(failing.backbone)  # which tensors with a graph would not allow


def test_the_step_after_a_failing_one(monkeypatch):
    """The record of the failed step is not used for a later one."""
    monkeypatch.setattr(
        'toast_mm.engine.hooks.steering_health_hook.steered_backbone', lambda model: model
    )
    arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16)
    backbone = TOASTViT(arch=arch, img_size=16, patch_size=8)
    lines, scalars = [], []
    runner = SimpleNamespace(
        model=backbone,
        rank=0,
        logger=SimpleNamespace(info=lines.append, warning=lines.append),
        visualizer=SimpleNamespace(add_scalars=lambda values, step: scalars.append(step)),
    )
    health = SteeringHealthHook(interval=2)
    for iteration, fails in ((0, True), (1, False), (2, False), (3, False)):
        runner.iter = iteration
        health.before_train_iter(runner)
        if not fails:
            backbone(torch.rand(1, 3, 16, 16))
            health.after_train_iter(runner)
    assert scalars == [3]


def test_one_process_reports(steered_config, run, tmp_path, monkeypatch):
    monkeypatch.setattr(Runner, 'rank', 1)
    run(steered_config(tmp_path, hook(interval=1)))
    assert not reported(tmp_path)


def test_no_interval():
    with pytest.raises(ValueError, match='interval=0 must be at least 1'):
        SteeringHealthHook(interval=0)
