"""Every hook of this project: named under mmengine's Runner and ours, by key, and by default."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import mmengine.runner
import pytest
import torch
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from PIL import Image
from test_attention_hook import job as attention_job  # noqa: F401  a fixture
from test_best_layer_hook import job, script  # noqa: F401  fixtures
from test_first_pass_cache_images import ToyScenes  # noqa: F401  registers it
from test_metric_model_hook import job as metric_job  # noqa: F401  a fixture
from test_other_runners import as_segmentor
from test_preemption_hook import SendSignal
from test_task_file_hook import base  # noqa: F401  a fixture
from test_visualization_hook import Paths, check_segmented_bands, draw
from toy_images import Spy, read_out

from toast_mm.checkpoint import load_from_local
from toast_mm.engine import NotFiniteError, Preempted, Runner, hooks, optim
from toast_mm.engine.runner import OWN_HOOKS, STANDING_HOOKS
from toast_mm.files import WriteError
from toast_mm.keys import SWITCHES
from toast_mm.registry import METRICS

HOOKS = {name for name in hooks.__all__ if name.endswith('Hook')}
KEYS = {hook: (key, argument) for key, (hook, argument) in SWITCHES.items()}
DEFAULT = {'CheckpointHook': 'checkpoint'}  # what replaces one of default_hooks
STANDING = {kind.__name__ for kind in STANDING_HOOKS}
CHECKS = {}


def ways(name: str) -> list[str]:
    """Ways in which a run gets a hook."""
    return [
        *('under mmengine', 'under ours'),
        *['by key'] * (name in KEYS),
        *['unasked'] * (name in STANDING),
        *['replacing'] * (name in {kind.__name__ for kind in OWN_HOOKS.values()}),
    ]


class Way:
    """How a run gets its hook."""

    def __init__(self, name: str, way: str) -> None:
        self.name, self.way = name, way

    def build(self, cfg, *spies: Hook, **arguments) -> mmengine.runner.Runner:
        """Runner of a config, with the hook."""
        cfg.__dict__['_format_python_code'] = False  # which takes a second at every checkpoint
        scope = 'toast_mm.'
        if self.way == 'replacing':
            pictures = dict(VisualizationHook='mmpretrain.', SegVisualizationHook='mmseg.')
            scope = pictures.get(self.name, '')
        hook = dict(type=f'{scope}{self.name}', **arguments)
        if self.way == 'by key':
            key, argument = KEYS[self.name]
            cfg[key] = arguments[argument] if argument else arguments or True
        elif self.name in DEFAULT:
            cfg.default_hooks[DEFAULT[self.name]] = hook
        elif self.way != 'unasked':
            cfg.custom_hooks = [h for h in cfg.custom_hooks if h['type'] != hook['type']] + [hook]
        runner = plain(cfg) if self.way == 'under mmengine' else Runner.from_cfg(cfg)
        assert sum(type(hook).__name__ == self.name for hook in runner.hooks) == 1
        for spy in spies:
            runner.register_hook(spy)
        return runner

    def train(self, *args, **kwargs) -> mmengine.runner.Runner:
        runner = self.build(*args, **kwargs)
        runner.train()
        return runner


def plain(cfg) -> mmengine.runner.Runner:
    """mmengine's Runner with only the hooks that the config names."""
    return mmengine.runner.Runner.from_cfg(cfg)


def check(function):
    """Register the check of a hook, which is the same for all ways to add it."""
    CHECKS[function.__name__] = function
    return function


@pytest.mark.parametrize(
    ('name', 'way'), [(name, way) for name in sorted(HOOKS) for way in ways(name)]
)
def test_hook(name, way, request):
    function = CHECKS[name]
    names = function.__code__.co_varnames[1 : function.__code__.co_argcount]
    function(Way(name, way), *map(request.getfixturevalue, names))


@pytest.fixture
def config(steered_config, base, tmp_path):  # noqa: F811  the fixture
    def make(name='run', **changes):
        backbone = dict(init_cfg=dict(type='Pretrained', checkpoint=base))
        return steered_config(tmp_path / name, backbone=backbone, **changes)

    return make


def assert_same_weights(one, other) -> None:
    weights = other.model.state_dict()
    for name, tensor in one.model.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=1e-4, atol=1e-5)


@pytest.fixture
def trained(config):
    """What mmengine's Runner trains without the hook."""
    runner = plain(config('plain'))
    runner.train()
    return runner


@check
def TaskFileHook(way, config, tmp_path):
    model = way.train(config()).model
    weights = load_from_local(str(tmp_path / 'run' / 'iter_3.pth'))['state_dict']
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen & weights.keys() == {'backbone.pos_embed'}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(weights[name], parameter)


@check
def FirstPassCacheHook(way, config, tmp_path):
    folder = tmp_path / 'cache'
    trained = plain(as_segmentor(config('plain')))
    trained.train()
    runner = way.train(as_segmentor(config()), folder=str(folder), dtype='float32')
    assert_same_weights(runner, trained)
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 1


@check
def ChannelsLastHook(way, config, trained):
    runner = way.train(config())
    weight = runner.model.backbone.patch_embed.projection.weight
    assert weight.stride() == (3 * 8 * 8, 1, 3 * 8, 3)
    assert_same_weights(runner, trained)


@check
def CompileHook(way, config, trained):
    runner = way.train(config(), backend='eager')
    assert runner.model.backbone._compiled_call_impl is not None
    assert 'train_step' not in vars(runner.model)  # which mmengine would compile
    assert_same_weights(runner, trained)


@check
def ResumeHook(way, config):
    """Resumes from the newest checkpoint, which is not named, with settings of the config."""
    plain(config(train_cfg__max_iters=2, default_hooks__checkpoint__interval=1)).train()
    folder = config().work_dir
    with open(f'{folder}/last_checkpoint', 'w') as file:
        file.write('/nowhere/iter_9.pth')
    cfg = config(resume=True, optim_wrapper__optimizer=dict(type='SGD', lr=0.025))
    settings = {} if way.way == 'unasked' else dict(settings='config')
    runner = way.build(cfg, spy := Spy(), **settings)
    runner.train()
    assert runner.iter == 3 and len(spy.draws) == 2  # one iteration of two images
    rate = 0.025 if settings else 0.1
    assert runner.optim_wrapper.param_groups[0]['lr'] == rate


@check
def FiniteCheckHook(way, config):
    settings = dict(optim_wrapper__optimizer=dict(type='SGD', lr=1e38))
    with pytest.raises(NotFiniteError, match='iteration 2'):
        way.train(config(default_hooks__checkpoint__interval=2, **settings))
    plain(config('plain', **settings)).train()


@check
def TunedParametersHook(way, config):
    runner = way.train(config())
    with open(f'{runner.log_dir}/vis_data/tuned_parameters.json') as file:
        note = json.load(file)
    assert note == {'backbone': sum(p.numel() for p in runner.model.backbone.topdown.parameters())}


@check
def EvaluationPrecisionHook(way, toy_config, tmp_path, monkeypatch):
    monkeypatch.setattr(optim, '_processor_has_bfloat16', lambda: False)
    dtypes = []
    for runner in (way.build, plain):
        runner = runner(toy_config(tmp_path, val_cfg=dict(fp16=True)))
        runner.model.head.register_forward_hook(lambda *call: dtypes.append(call[-1].dtype))
        runner.val()
    assert dtypes == [torch.float32] * 4 + [torch.bfloat16] * 4


@check
def WriteCheckHook(way, toy_config, full_disk, tmp_path, monkeypatch):
    monkeypatch.setattr(logging, 'raiseExceptions', False)  # a traceback for every line
    full_disk('2*.log')
    plain(toy_config(tmp_path, log_level='INFO')).val()
    with pytest.raises(WriteError, match=r'\.log cannot be written: .*No space left'):
        way.build(toy_config(tmp_path, log_level='INFO')).val()


@check
def StepSeedHook(way, toy_config, tmp_path):
    """Dropout is the same, whatever others draw."""

    class Draw(Hook):
        def before_train_iter(self, *args, **kwargs) -> None:
            torch.rand(1)

    def weights(name, train, *spies):
        cfg = toy_config(tmp_path / name, custom_hooks=[])
        return train(cfg, *spies).model.head.weight

    def train_without(cfg, *spies):
        runner = plain(cfg)
        for spy in spies:
            runner.register_hook(spy)
        runner.train()
        return runner

    assert torch.equal(weights('a', way.train), weights('b', way.train, Draw()))
    assert not torch.equal(weights('c', train_without), weights('d', train_without, Draw()))


@check
def DataCheckHook(way, toy_config, tmp_path):
    """A sampler of an empty data set would search forever."""
    cfg = toy_config(tmp_path, custom_hooks=[])
    cfg.train_dataloader.dataset.size = 0
    with pytest.raises(ValueError, match=r'data set is empty: toast_mm\.ToyDataset\(.*no sample'):
        way.train(cfg)


@check
def SkipBadFilesHook(way, config, tmp_path):
    """The next image takes the place of the broken one; batches are of two."""
    for number in range(4):
        path = tmp_path / 'images' / 'ab'[number > 1] / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (16, 16), (60 * number, 0, 0)).save(path)
    (tmp_path / 'images' / 'a' / '1.png').write_bytes(b'no image')
    cfg = config(train_cfg__max_iters=2)
    steps = [dict(type='toast_mm.LoadImageFromFile'), dict(type='mmpretrain.PackInputs')]
    cfg.train_dataloader.dataset = dict(
        type='mmpretrain.CustomDataset', data_root=str(tmp_path / 'images'), pipeline=steps
    )
    cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=False)
    runner = way.build(cfg)
    lines = []
    runner.logger.warning = lines.append
    runner.train()
    assert [line for line in lines if 'skipped, since 1 files cannot be read' in line]


@check
def MeanTokenInitHook(way, config):
    runner = way.train(config(train_cfg__max_iters=1), spy := Spy(), num_batches=2)
    expected = read_out(runner.model.backbone, [0, 2, 4, 6]).mean((0, 1))
    torch.testing.assert_close(spy.embeddings[0], expected)


@check
def PretunedHook(way, config, tmp_path):
    topdown = way.train(config()).model.backbone.topdown.state_dict()
    file = load_from_local(str(tmp_path / 'run' / 'topdown.safetensors'))
    weights = file.get('state_dict', file)
    for name, tensor in topdown.items():
        (stored,) = (t for key, t in weights.items() if key.endswith(name))
        assert torch.equal(stored, tensor)


@check
def SteeringHealthHook(way, config):
    runner = way.train(config(), interval=1)
    with open(f'{runner.log_dir}/vis_data/scalars.json') as file:
        lines = [json.loads(line) for line in file]
    steps = [line['step'] for line in lines if 'steering/mask' in line]
    assert steps == [1, 2, 3]


@check
def BestLayerHook(way, job, script):  # noqa: F811  fixtures
    script([50, 70, 70, 60], [80, 70, 70, 60], [10, 20, 90, 90])
    cfg = job()
    cfg.custom_hooks.pop()
    assert way.train(cfg).model.head.best_layer.item() == 2


@check
def AttentionHook(way, attention_job, tmp_path):  # noqa: F811  the fixture
    way.train(attention_job(), indices=[0, 5])
    assert len([*tmp_path.glob('work/*/vis_data/vis_image/*.png')]) == 4  # validations


@check
def MetricModelHook(way, metric_job):  # noqa: F811  the fixture
    """Without it, the metric ends the run. The box is a quarter of the image."""
    assert way.build(metric_job()).val()['attention_inside/uniform'] == 25


@check
def PreemptionHook(way, config, tmp_path):
    cfg = config()
    cfg.default_hooks.checkpoint = dict(type='toast_mm.CheckpointHook', by_epoch=False)
    with pytest.raises(Preempted):
        way.train(cfg, SendSignal(1))
    assert load_from_local(str(tmp_path / 'run' / 'interrupted.pth'))['meta']['iter'] == 2


@check
def CheckpointHook(way, config, tmp_path, monkeypatch):
    """The old checkpoint stays until the new one is complete."""
    put = LocalBackend.put

    def fail(self, content, filepath):
        if 'iter_2' in str(filepath):
            raise OSError(28, 'No space left on device')
        put(self, content, filepath)

    monkeypatch.setattr(LocalBackend, 'put', fail)
    with pytest.raises(OSError, match='No space left'):
        way.train(config(), interval=1, by_epoch=False, max_keep_ckpts=1)
    assert load_from_local(str(tmp_path / 'run' / 'iter_1.pth'))['meta']['iter'] == 1


@check
def EarlyStoppingHook(way, toy_config, tmp_path, monkeypatch):
    """The first score is the best one; the two worse ones are from two trainings."""
    scores = iter(range(1, 9))
    monkeypatch.setattr(
        METRICS.get('toast_mm.ToyError'),
        'compute_metrics',
        lambda self, results: dict(error=float(next(scores))),
    )
    arguments = dict(monitor='toy/error', rule='less', patience=2)
    for length, resume in ((2, False), (9, True)):
        cfg = toy_config(tmp_path, by_epoch=True, resume=resume, train_cfg__max_epochs=length)
        cfg.custom_hooks = [dict(type='toast_mm.ResumeHook')]
        runner = way.train(cfg, **arguments)
        if not resume:  # the checkpoint of epoch 2 was saved before its validation
            scores = iter(range(2, 9))
    assert runner.epoch == 3


@check
def VisualizationHook(way, steered_config, tmp_path):
    """Images with the same name in two folders have two pictures."""
    cfg = steered_config(tmp_path, visualizer=dict(type='mmpretrain.UniversalVisualizer'))
    folder = tmp_path / 'pictures'
    runner = way.build(cfg, enable=True, interval=1, out_dir=str(folder))
    (hook,) = (hook for hook in runner.hooks if type(hook).__name__ == 'VisualizationHook')
    assert draw(Paths(['d/green/1.png', 'd/red/1.png']), folder, hook=hook) == [
        *('0_1.png_0.png', '1_1.png_0.png')
    ]


@check
def SegVisualizationHook(way, steered_config, tmp_path):
    """Three of four bands are drawn."""
    cfg = steered_config(tmp_path, visualizer=dict(type='mmpretrain.UniversalVisualizer'))
    runner = way.build(cfg, draw=True, interval=1)
    (hook,) = (hook for hook in runner.hooks if type(hook).__name__ == 'SegVisualizationHook')
    check_segmented_bands(hook, tmp_path, 'test')


def test_every_hook_has_a_check():
    assert CHECKS.keys() == HOOKS


def test_the_docs_list_every_hook_and_key():
    lines = (Path(__file__).parents[3] / 'docs' / 'switches.md').read_text().splitlines()
    rows = [line.split(' | ') for line in lines if line.startswith('| `')]
    table = {row[0].strip('| `'): row[2] for row in rows}
    assert table.keys() == HOOKS
    for name, text in table.items():
        named = {key for key, _ in KEYS.values() if f'`{key}=' in text}
        assert named == {key for hook, (key, _) in KEYS.items() if hook == name}
        assert ('always' in text) is (name in STANDING)
        assert ('replaces' in text) is ('replacing' in ways(name))
