"""Task files and cached first passes under mmengine's own Runner, and keys that nobody reads."""

import mmengine.runner
import pytest
import torch
from mmengine.config import ConfigDict
from test_first_pass_cache_images import ToyScenes  # noqa: F401  registers it
from test_task_file_hook import base, build, outputs  # noqa: F401  a fixture, and functions
from toy_images import MEAN, STD

from toast_mm.checkpoint import load_from_local
from toast_mm.engine import Runner

TASK_FILES = dict(type='toast_mm.TaskFileHook')


@pytest.fixture
def config(steered_config, base, tmp_path):  # noqa: F811  the fixture
    def make(name='run', *hooks, **changes):
        backbone = dict(init_cfg=dict(type='Pretrained', checkpoint=base))
        cfg = steered_config(
            tmp_path / name, *hooks, backbone=backbone, default_hooks__checkpoint__interval=2
        )
        cfg.__dict__['_format_python_code'] = False  # which takes a second at every checkpoint
        cfg.merge_from_dict(changes)
        return cfg

    return make


def as_segmentor(cfg):
    cfg.default_scope = 'mmseg'
    cfg.train_dataloader.dataset = ConfigDict(
        type='toast_mm.ToyScenes', pipeline=[dict(type='toast_mm.PackToyScene')]
    )
    cfg.model = ConfigDict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', size=(24, 24), mean=MEAN, std=STD),
        backbone=dict(cfg.model.backbone, img_size=24, out_type='featmap'),
        decode_head=dict(
            type='FCNHead', in_channels=16, in_index=0, channels=8, num_classes=3, num_convs=1
        ),
    )
    return cfg


def train(cfg, runner=mmengine.runner.Runner):
    runner = runner.from_cfg(cfg)
    runner.train()
    return runner


@pytest.mark.parametrize(
    ('average', 'adapt'),
    [('EMAHook', None), ('mmpretrain.EMAHook', None), ('EMAHook', as_segmentor)],
)
def test_task_files_and_resuming_from_them(config, tmp_path, average, adapt):
    adapt = adapt or (lambda cfg: cfg)
    hooks = [TASK_FILES, dict(type=average, momentum=0.3)]
    whole = train(adapt(config('whole', *hooks)))
    train(adapt(config('parts', *hooks, **{'train_cfg.max_iters': 2})))
    checkpoint = load_from_local(str(tmp_path / 'parts' / 'iter_2.pth'))
    weights = checkpoint['state_dict']
    tuned = {name for name, p in whole.model.named_parameters() if p.requires_grad}
    kept = {'backbone.base_record', 'backbone.pos_embed'}
    buffers = {name for name, _ in whole.model.named_buffers()}
    assert weights.keys() - buffers == tuned | kept
    names = {name.removeprefix('module.') for name in checkpoint['ema_state_dict']} - {'steps'}
    assert names == weights.keys()
    resumed = train(adapt(config('parts', *hooks, resume=True)))
    assert resumed.iter == 3
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name


def test_a_runner_without_configs_says_so(config, tmp_path):
    cfg = config('run', dict(type='toast_mm.FirstPassCacheHook', folder=str(tmp_path / 'cache')))
    loader = mmengine.runner.Runner.build_dataloader(cfg.train_dataloader)
    with pytest.raises(ValueError, match=r'needs the configs .* use Runner\.from_cfg'):
        mmengine.runner.Runner(
            model=build(cfg),
            work_dir=cfg.work_dir,
            train_dataloader=loader,
            train_cfg=cfg.train_cfg,
            optim_wrapper=cfg.optim_wrapper,
            custom_hooks=cfg.custom_hooks,
            experiment_name='without_configs',
        ).train()


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('task_files', True, r"reads the key 'task_files' .* write custom_hooks=.*TaskFileHook"),
        ('first_pass_cache', dict(val=False), r"key 'first_pass_cache' .*FirstPassCacheHook"),
        ('channels_last', True, "nobody reads the key 'channels_last'"),
        ('task_file', True, "'task_file' of the config: it must be named 'task_files'"),
    ],
)
def test_a_key_that_this_runner_does_not_read(config, key, value, message):
    with pytest.raises(ValueError, match=message):
        train(config(**{key: value}))
    model = build(config())  # a model that is no part of that run
    model.init_weights()
    assert train(config('again', my_tasks=True, task_files=False, first_pass_cache=None)).iter == 3


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('first_pass_cach', True, "must be named 'first_pass_cache'"),
        ('taskfiles', True, "must be named 'task_files'"),
        ('channel_last', False, "must be named 'channels_last'"),
        ('task_files', 'yes', "task_files='yes' must be True or False or None"),
        ('first_pass_cache', 'yes', "first_pass_cache='yes' must be True or False or dict"),
    ],
)
def test_keys_under_our_runner(config, key, value, message):
    with pytest.raises(ValueError, match=message):
        train(config(**{key: value}), Runner)


def test_keys_of_others_are_left_alone(config):
    private = dict(task='birds', test_files=['a'], tasks=1, cache=True, research=2, first_pass=3)
    assert train(config(**private, task_files=True), Runner).iter == 3
