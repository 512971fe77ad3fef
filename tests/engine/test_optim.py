from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import build_optim_wrapper
from torch import nn

from toast_mm.engine import optim
from toast_mm.engine.optim import computes_bfloat16


class Selection(nn.Module):
    """Partly tuned."""

    def __init__(self) -> None:
        super().__init__()
        self.task_embedding = nn.Parameter(torch.ones(3))
        self.channel_transform = nn.Parameter(torch.eye(3), requires_grad=False)


class Model(nn.Module):
    """A frozen backbone of 8 parameters, a partly tuned part and a tuned head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)) for _ in range(2)]
        self.backbone = nn.Sequential(*layers).requires_grad_(False)
        self.selection = Selection()
        self.head = nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.backbone(x) * self.selection.task_embedding
        return self.head(x @ self.selection.channel_transform)


class Wrapper(nn.Module):
    """Like DistributedDataParallel."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


TUNED = ['selection.task_embedding', 'head.0.weight', 'head.0.bias', 'head.1.weight', 'head.1.bias']
PARAMWISE = [
    None,
    {},
    dict(norm_decay_mult=0.0),
    dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),
]


def build(model: nn.Module, paramwise_cfg: dict | None = None, optimizer=None, **settings):
    optimizer = optimizer or dict(type='SGD', lr=0.5, weight_decay=0.0)
    return build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            constructor='toast_mm.TunedOptimWrapperConstructor',
            optimizer=optimizer,
            paramwise_cfg=paramwise_cfg,
        )
        | settings,
    )


def parameters_of(wrapper, model: nn.Module) -> list[str]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [names[p] for group in wrapper.optimizer.param_groups for p in group['params']]


def settings_of(wrapper, model: nn.Module, key: str) -> dict[str, float]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[p]: group[key] for group in wrapper.optimizer.param_groups for p in group['params']
    }


def gradients(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    tuned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return dict(zip(tuned, torch.autograd.grad(model(x).sum(), tuned.values()), strict=True))


class TestTunedOptimWrapperConstructor:
    @pytest.mark.parametrize('paramwise_cfg', PARAMWISE)
    @pytest.mark.parametrize('wrap', [nn.Sequential, Wrapper], ids=['plain', 'wrapped'])
    def test_tuned_parameters_and_only_those(self, wrap, paramwise_cfg):
        model = Model()
        wrapper = build(wrap(model) if wrap is Wrapper else model, paramwise_cfg)
        assert parameters_of(wrapper, model) == TUNED
        assert all(group['params'] for group in wrapper.optimizer.param_groups)

    def test_decay_of_norms(self):
        model = Model()
        optimizer = dict(type='AdamW', lr=0.5, weight_decay=0.1)
        wrapper = build(model, dict(norm_decay_mult=0.0), optimizer)
        decays = settings_of(wrapper, model, 'weight_decay')
        assert decays == dict.fromkeys(TUNED, 0.1) | {'head.0.weight': 0.0, 'head.0.bias': 0.0}
        assert set(settings_of(wrapper, model, 'lr').values()) == {0.5}

    def test_custom_keys(self):
        model = Model()
        keys = {'head': dict(lr_mult=10.0), 'head.1': dict(lr_mult=2.0, decay_mult=0.5)}
        optimizer = dict(type='SGD', lr=0.5, weight_decay=0.1)
        wrapper = build(model, dict(custom_keys=keys), optimizer)
        assert settings_of(wrapper, model, 'lr') == pytest.approx(
            dict(zip(TUNED, [0.5, 5.0, 5.0, 1.0, 1.0], strict=True))
        )
        assert settings_of(wrapper, model, 'weight_decay') == pytest.approx(
            dict(zip(TUNED, [0.1, 0.1, 0.1, 0.05, 0.05], strict=True))
        )

    def test_no_line_per_frozen_parameter(self, monkeypatch):
        lines = []
        monkeypatch.setattr(
            'mmengine.optim.optimizer.default_constructor.print_log',
            lambda line, *args, **kwargs: lines.append(line),
        )
        build(Model(), dict(norm_decay_mult=0.0), dict(type='SGD', lr=0.5, weight_decay=0.1))
        assert not [line for line in lines if 'backbone' in line]
        assert len(lines) == 3  # the decay of a norm's weight and bias, one frozen among tuned ones

    @pytest.mark.parametrize('paramwise_cfg', PARAMWISE)
    def test_step(self, paramwise_cfg):
        """Frozen parameters neither decay nor have a state."""
        model = Model()
        before = {name: parameter.clone() for name, parameter in model.named_parameters()}
        wrapper = build(model, paramwise_cfg, dict(type='AdamW', lr=0.5, weight_decay=0.1))
        wrapper.update_params(model(torch.eye(3)).square().sum())
        changed = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
        assert changed == TUNED
        assert len(wrapper.optimizer.state) == len(TUNED)

    @pytest.mark.parametrize('paramwise_cfg', PARAMWISE)
    def test_nothing_tuned(self, paramwise_cfg):
        with pytest.raises(ValueError, match=r'^no parameter of the model is tuned'):
            build(Wrapper(Model().requires_grad_(False)), paramwise_cfg)

    def test_gradient_clipping(self):
        model, x = Model(), torch.eye(3)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        expected = gradients(model, x)
        norm = torch.cat([gradient.flatten() for gradient in expected.values()]).norm()
        assert norm > 0.1
        wrapper = build(model, clip_grad=dict(max_norm=0.1, norm_type=2))
        wrapper.update_params(model(x).sum())
        for name, parameter in model.named_parameters():
            step = 0.5 * expected[name] * 0.1 / norm if name in expected else 0.0
            torch.testing.assert_close(parameter.detach(), before[name] - step, rtol=0, atol=1e-6)

    def test_accumulated_gradients(self):
        """Two halves of a batch make one step with their mean."""
        model, halves = Model(), (torch.eye(3), torch.ones(2, 3))
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        expected = [gradients(model, x) for x in halves]
        wrapper = build(model, accumulative_counts=2)
        wrapper.initialize_count_status(model, 0, 2)
        for count, x in enumerate(halves):
            assert all(torch.equal(p, before[name]) for name, p in model.named_parameters()), count
            wrapper.update_params(model(x).sum())
        for name in TUNED:
            step = 0.5 * (expected[0][name] + expected[1][name]) / 2
            parameter = model.get_parameter(name).detach()
            torch.testing.assert_close(parameter, before[name] - step, rtol=0, atol=1e-6)


@pytest.fixture
def processor(monkeypatch):
    """Decides whether the processor has bfloat16 units."""

    def decide(has_bfloat16: bool) -> None:
        monkeypatch.setattr(optim, '_processor_has_bfloat16', lambda: has_bfloat16)

    return decide


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """Messages in the log."""
    lines: list[str] = []
    monkeypatch.setattr(optim, 'print_log', lambda line, logger, level: lines.append(line))
    return lines


class TestComputesBFloat16:
    def test_the_processor_decides(self, processor, said):
        processor(True)
        assert computes_bfloat16('cpu', 'training')
        assert said == []
        processor(False)
        assert not computes_bfloat16(torch.device('cpu'), 'training')
        (line,) = said
        assert line.startswith('training uses float32: this processor has no bfloat16 units')

    @pytest.mark.parametrize('has_units', [True, False])
    def test_the_gpu_decides(self, processor, said, monkeypatch, has_units):
        processor(not has_units)

        def supported(including_emulation: bool = True) -> bool:
            return has_units or including_emulation

        monkeypatch.setattr(torch.cuda, 'is_bf16_supported', supported)
        assert computes_bfloat16('cuda:1', 'training') is has_units
        assert [line.split(' and ')[0] for line in said] == (
            [] if has_units else ['training uses float32: this GPU has no bfloat16 units']
        )

    def test_other_devices_do_not(self, processor, said):
        processor(True)
        assert not computes_bfloat16('xpu:1', 'the test')
        (line,) = said
        assert line.startswith('the test uses float32') and line.endswith('the model is on xpu:1')

    @pytest.mark.parametrize('answer', [True, False])
    def test_onednn_is_asked(self, monkeypatch, answer):
        monkeypatch.setattr(torch.ops.mkldnn, '_is_mkldnn_bf16_supported', lambda: answer)
        assert optim._processor_has_bfloat16() is answer

    def test_a_build_without_onednn(self, monkeypatch):
        monkeypatch.setattr(torch.ops.mkldnn, '_is_mkldnn_bf16_supported', lambda: True)
        monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: False)
        assert optim._processor_has_bfloat16() is False


class TestBFloat16OptimWrapper:
    @pytest.fixture
    def wrapper(self, processor):
        processor(True)
        model = Model()
        return model, build(model, type='toast_mm.BFloat16OptimWrapper')

    def test_forward_in_bfloat16_weights_in_float32(self, wrapper):
        model, wrapper = wrapper
        linear, x = model.head[1], torch.rand(5, 3)
        with wrapper.optim_context(model):
            output = linear(x)
        assert output.dtype == torch.bfloat16
        weight, bias = linear.weight.bfloat16(), linear.bias.bfloat16()
        assert torch.equal(output, F.linear(x.bfloat16(), weight, bias))
        assert linear(x).dtype == torch.float32

        before = linear.weight.detach().clone()
        wrapper.update_params(output.float().square().sum())
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
        assert linear.weight.grad is None  # zeroed for the next step
        assert not torch.equal(linear.weight, before)

    def test_float32_without_bfloat16_units(self, processor, said):
        """The same step as mmengine's ``OptimWrapper``, and attention by the fused kernel."""
        processor(False)
        x, weights = torch.rand(5, 3), []
        for kind in ('OptimWrapper', 'toast_mm.BFloat16OptimWrapper'):
            model = Model()
            wrapper = build(model, type=kind)
            with wrapper.optim_context(model):
                output = model(x)
                assert output.dtype == torch.float32
                assert torch.backends.cuda.flash_sdp_enabled()
            wrapper.update_params(output.square().sum())
            weights.append(model.head[1].weight.detach())
        assert torch.equal(*weights)
        assert len(said) == 1

    def test_on_a_gpu(self, monkeypatch):
        """bfloat16 by the autocast of the GPU, and attention by the kernel that PyTorch chooses."""
        monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: True)
        entered = []

        def autocast(device_type: str, dtype: torch.dtype):
            entered.append((device_type, dtype))
            return nullcontext()

        monkeypatch.setattr(optim.torch, 'autocast', autocast)
        parameter = SimpleNamespace(device=torch.device('cuda:0'))
        optimizer = mock.Mock(spec=torch.optim.SGD, param_groups=[dict(params=[parameter])])
        wrapper = optim.BFloat16OptimWrapper(optimizer)
        with wrapper.optim_context(nn.Linear(1, 1)):
            assert entered == [('cuda', torch.bfloat16)]
            assert torch.backends.cuda.flash_sdp_enabled()
        loss = mock.Mock()
        loss.backward.side_effect = lambda: entered.append(torch.backends.cuda.flash_sdp_enabled())
        wrapper.backward(loss)
        assert entered[1:] == [True]

    @pytest.mark.parametrize('saved_with', [True, False])
    def test_state_goes_to_a_machine_of_the_other_kind(self, processor, saved_with):
        """Momentum from one precision is used in the other."""
        x = torch.rand(5, 3)
        processor(saved_with)
        model = Model()
        optimizer = dict(type='SGD', lr=0.5, momentum=0.9)
        wrapper = build(model, type='toast_mm.BFloat16OptimWrapper', optimizer=optimizer)
        with wrapper.optim_context(model):
            loss = model(x).float().sum()
        wrapper.update_params(loss)

        processor(not saved_with)
        other = Model()
        other.load_state_dict(model.state_dict())
        resumed = build(other, type='toast_mm.BFloat16OptimWrapper', optimizer=optimizer)
        resumed.load_state_dict(wrapper.state_dict())
        momentum = wrapper.optimizer.state[model.head[1].bias]['momentum_buffer']
        assert momentum.item() == 5  # of five samples
        before = model.head[1].bias.item()
        with resumed.optim_context(other):
            loss = other(x).float().sum()
        resumed.update_params(loss)
        assert other.head[1].bias.item() == pytest.approx(before - 0.5 * (0.9 * 5 + 5))

    def test_context_ends_with_an_error(self, wrapper):
        model, wrapper = wrapper
        with pytest.raises(KeyError), wrapper.optim_context(model):
            raise KeyError
        assert not torch.is_autocast_enabled('cpu')

    def test_trains(self, toy_config, tmp_path, processor):
        """A run is close to that in float32, but not equal."""
        from toast_mm.engine import Runner

        processor(True)
        weights = []
        for kind in ('OptimWrapper', 'toast_mm.BFloat16OptimWrapper'):
            cfg = toy_config(tmp_path, optim_wrapper__type=kind, val_cfg=None)
            cfg.val_dataloader = cfg.val_evaluator = None
            runner = Runner.from_cfg(cfg)
            runner.train()
            weights.append(runner.model.head.weight.detach())
        assert weights[1].dtype == torch.float32
        assert not torch.equal(*weights)
        torch.testing.assert_close(*weights, rtol=0, atol=0.05)
