"""Hooks that are named twice, do not fit the model, or have wrong arguments, under any Runner."""

from __future__ import annotations

import mmengine.runner
import pytest
from mmengine.model import BaseModel
from torch import nn

from toast_mm.engine import Runner, hooks
from toast_mm.engine.config import ConfigError
from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.keys import SWITCHES
from toast_mm.registry import MODELS

SINGLE = [n for n in hooks.__all__ if issubclass(getattr(hooks, n), SingleHook)]
TASK_FILES = dict(type='toast_mm.TaskFileHook')


@MODELS.register_module(force=True)
class WithoutBackbone(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 1)

    def forward(self, inputs, **kwargs) -> dict:
        return dict(loss=self.head(inputs[0]).sum())


@pytest.fixture(params=[mmengine.runner.Runner, Runner], ids=['mmengine', 'ours'])
def runner_type(request):
    return request.param


@pytest.fixture
def config(toy_config, tmp_path):
    def make(*custom_hooks, **changes):
        custom_hooks = [
            dict(type=f'toast_mm.{hook}') if isinstance(hook, str) else hook
            for hook in custom_hooks
        ]
        return toy_config(tmp_path, custom_hooks=custom_hooks, **changes)

    return make


@pytest.mark.parametrize('name', SINGLE)
def test_a_hook_named_twice(config, runner_type, name):
    runner = runner_type.from_cfg(config(name, name))
    with pytest.raises(ValueError, match=f'toast_mm.{name} is given twice: name it once'):
        runner.call_hook('before_run')


@pytest.mark.parametrize('key', SWITCHES)
def test_a_hook_named_and_asked_for_by_its_key(config, key):
    name = SWITCHES[key].hook
    cfg = config(name, **{key: 'config' if key == 'resume_settings' else True})
    with pytest.raises(ValueError, match=f'{key} and {name} in custom_hooks are the same'):
        Runner.from_cfg(cfg)


@pytest.mark.parametrize(
    ('name', 'model', 'message'),
    [
        ('TaskFileHook', 'ToyModel', 'TaskFileHook: Sequential does not support task files'),
        ('TaskFileHook', 'WithoutBackbone', 'TaskFileHook: WithoutBackbone has no backbone'),
        (
            'FirstPassCacheHook',
            'ToyModel',
            'first_pass_cache: Sequential has no first pass',
        ),
        ('FirstPassCacheHook', 'WithoutBackbone', 'first_pass_cache: WithoutBackbone has no'),
        ('MeanTokenInitHook', 'ToyModel', 'MeanTokenInitHook: the backbone has no top-down module'),
        ('MeanTokenInitHook', 'WithoutBackbone', 'MeanTokenInitHook: .* no top-down module'),
        ('PretunedHook', 'ToyModel', 'PretunedHook: the backbone has no top-down module to write'),
        ('PretunedHook', 'WithoutBackbone', 'PretunedHook: the backbone has no top-down module'),
        ('BestLayerHook', 'ToyModel', r'BestLayerHook: the head is a Linear, but only toast_mm\.I'),
        ('CompileHook', 'WithoutBackbone', 'CompileHook: WithoutBackbone has no backbone'),
    ],
)
def test_a_model_without_our_backbone(config, runner_type, name, model, message):
    runner = runner_type.from_cfg(config(name, model=dict(type=f'toast_mm.{model}', _delete_=True)))
    with pytest.raises(ValueError, match=message):
        runner.train()


def test_hooks_that_any_model_may_have(config, runner_type):
    """Hooks of every run of ours, and hooks that need no backbone."""
    names = {*SINGLE} - {'BestLayerHook', 'CompileHook', 'FirstPassCacheHook', 'MeanTokenInitHook'}
    names -= {'AttentionHook', 'PretunedHook', 'TaskFileHook', 'ResumeHook'}
    hooks = (*sorted(names), 'ResumeHook')
    cfg = config(*hooks, model=dict(type='toast_mm.WithoutBackbone', _delete_=True))
    for part in ('cfg', 'dataloader', 'evaluator'):
        cfg[f'val_{part}'] = None
    runner = runner_type.from_cfg(cfg)
    runner.train()
    assert runner.iter == 9


WRONG = [
    ('FirstPassCacheHook', dict(dtype='int8'), r"dtype='int8' must be 'float16' or 'float32'"),
    ('ResumeHook', dict(settings='best'), "settings='best' must be 'checkpoint' or 'config'"),
    ('FiniteCheckHook', dict(patience=0), 'patience=0 must be at least 1'),
    ('MeanTokenInitHook', dict(num_batches=0), 'num_batches=0 must be at least 1'),
    ('SteeringHealthHook', dict(interval=0), 'interval=0 must be at least 1'),
    ('DataCheckHook', dict(batches=0), 'batches=0 must be at least 1'),
    ('PretunedHook', dict(filename='a.pth'), "filename='a.pth' must end in .safetensors"),
    ('CompileHook', dict(fulgraph=True), "unexpected keyword argument 'fulgraph'"),
]


@pytest.mark.parametrize(('name', 'arguments', 'message'), WRONG)
def test_a_wrong_value(config, runner_type, name, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        runner_type.from_cfg(config(dict(type=f'toast_mm.{name}', **arguments))).train()


@pytest.mark.parametrize('key', ['first_pass_cache', 'resume_settings', 'compile'])
def test_a_wrong_value_of_a_key(config, key):
    hook, argument = SWITCHES[key]
    ((arguments, message),) = [(arguments, m) for name, arguments, m in WRONG if name == hook]
    with pytest.raises((ValueError, TypeError), match=message):
        Runner.from_cfg(config(**{key: arguments.get(argument, arguments)})).train()


@pytest.mark.parametrize('name', sorted({*SINGLE} - {'CompileHook'}))
def test_an_argument_that_is_not_there(config, runner_type, name):
    with pytest.raises(TypeError, match=rf"'anything'|{name}\(\) takes no arguments"):
        runner_type.from_cfg(config(dict(type=f'toast_mm.{name}', anything=1)))


@pytest.mark.parametrize('part', ['custom_hooks', 'default_hooks'])
@pytest.mark.parametrize('kind', ['', None, 0])
def test_a_hook_without_a_name(config, part, kind):
    hook = dict(type=kind, interval=3)
    changes = dict(default_hooks=dict(logger=hook)) if part == 'default_hooks' else {}
    cfg = config(*([] if changes else [hook]), **changes)
    with pytest.raises(ConfigError, match=rf'^type={kind!r} names no hook: .*\binterval\b.* 3'):
        Runner.from_cfg(cfg)


def test_whole_steps_compiled_as_well(config):
    cfg = config('CompileHook', compile=dict(backend='eager'))
    with pytest.raises(ValueError, match=r"compile=\{'backend': 'eager'\} makes this Runner"):
        mmengine.runner.Runner.from_cfg(cfg).train()


@pytest.mark.parametrize('key', ['task_file', 'channels_last'])
def test_a_key_that_nobody_reads_without_a_backbone_of_ours(config, key):
    """Every hook of ours checks for it, with any model."""
    runner = mmengine.runner.Runner.from_cfg(config('StepSeedHook', **{key: True}))
    with pytest.raises(ValueError, match=f"nobody reads the key '{key}'"):
        runner.train()
