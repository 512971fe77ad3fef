"""Two processes that share the weights of a model train as two that hold all of them."""

import os
from unittest import mock

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.registry import DefaultScope
from torch import distributed
from toy_images import SIZES

from toast_mm.checkpoint import load_from_local
from toast_mm.checkpoint.adapter import RECORD
from toast_mm.engine import Runner
from toast_mm.engine.config import ConfigError
from toast_mm.engine.hooks import CheckpointHook
from toast_mm.engine.model import load_model
from toast_mm.engine.runner import _leave_process_group
from toast_mm.engine.sharding import FullyShardedDataParallel, check_sharding
from toast_mm.models import TOASTViT

SHARDED = dict(type='toast_mm.FullyShardedDataParallel')
VIT = dict(type='toast_mm.TOASTViT', **SIZES)
LORA = dict(type='toast_mm.LoRA', rank=2)
# Blocks that train and run twice; nothing frozen; frozen and tuned parameters in other families.
KINDS = {
    'toast': dict(VIT, tuning=LORA),
    'coarse': dict(VIT, tuning=LORA, first_pass=dict(scale=0.5)),
    'full': dict(VIT, feedback_from=None, frozen=False),
    'dinov3': dict(
        type='toast_mm.TOASTTimm',
        model_name='vit_small_patch16_dinov3',
        **dict(img_size=16, patch_size=8, embed_dim=16, depth=3, num_heads=2),
        feedback_from=None,
        tuning=LORA,
    ),
    'convnext': dict(
        type='toast_mm.TOASTConvNeXt',
        arch=dict(depths=[1, 1, 1, 1], channels=[8, 8, 8, 16]),
        stem_patch_size=2,
        lite=dict(rank=2),
    ),
}


def train(rank: int, folder: str, files: list[str]) -> None:
    """Train from configs, one after the other, in one of two processes."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', LOCAL_WORLD_SIZE='2')
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    for file in files:
        DefaultScope._instance_dict.clear()
        # Formatting texts of configs takes ten times as long as such a training.
        with mock.patch('yapf.yapflib.yapf_api.FormatCode', lambda text, **kwargs: (text, True)):
            runner = Runner.from_cfg(Config.fromfile(file))
            runner.train()
        if isinstance(runner.model, FullyShardedDataParallel):
            parameters = list(runner.model.parameters())
            held = sum(parameter.to_local().numel() for parameter in parameters)
            assert held < 0.6 * sum(parameter.numel() for parameter in parameters)
    del runner, parameters
    _leave_process_group()


@pytest.fixture
def job(steered_config, tmp_path):
    """Write the config of a training of two processes: ``job(name, backbone, **changes)``."""

    def write(name: str, backbone: dict = VIT, **changes) -> Config:
        settings = dict(
            train_cfg__max_iters=4,
            default_hooks__checkpoint__interval=2,
            optim_wrapper__optimizer=dict(type='AdamW', lr=0.01, eps=1e-3),
            optim_wrapper__clip_grad=dict(max_norm=0.1),
            optim_wrapper__accumulative_counts=2,
        )
        cfg = steered_config(tmp_path / name, **settings | changes)
        cfg.model.backbone = backbone
        cfg.launcher = 'pytorch'
        cfg.custom_imports = dict(imports=['toast_mm', 'toy_images'])
        cfg.dump(tmp_path / f'{name}.py')
        return cfg

    return write


@pytest.fixture
def base(tmp_path) -> dict:
    """Where the base of a backbone is."""
    torch.manual_seed(3)
    path = tmp_path / 'base.pth'
    torch.save(TOASTViT(**SIZES, feedback_from=None).state_dict(), path)
    return dict(type='Pretrained', checkpoint=str(path))


@pytest.fixture
def one_process(one_process_group, monkeypatch) -> None:
    """A group of this process, for distributed runs."""
    for name in ('OMP', 'MKL'):  # otherwise mmengine warns
        monkeypatch.setenv(f'{name}_NUM_THREADS', '1')


@pytest.mark.slow
def test_sharded_trainings_end_as_those_with_ddp(job, base, tmp_path, monkeypatch):
    """Weights, optimizer and files; also resumed, from a file of either."""
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    wrappers = dict(ddp=None, sharded=SHARDED)
    names = []
    for kind, backbone in KINDS.items():
        changes = dict(task_files=True) if kind == 'toast' else {}
        init_cfg = base if kind == 'toast' else None
        for how, wrapper in wrappers.items():
            name = f'{kind}_{how}'
            names.append(name)
            job(name, dict(backbone, init_cfg=init_cfg), model_wrapper_cfg=wrapper, **changes)
    for how in wrappers:
        start = dict(resume=True, load_from=str(tmp_path / f'toast_{how}' / 'iter_2.pth'))
        names.append(f'resumed_{how}')
        backbone = dict(KINDS['toast'], init_cfg=base)
        job(names[-1], backbone, model_wrapper_cfg=SHARDED, task_files=True, **start)
    files = [str(tmp_path / f'{name}.py') for name in names]
    torch.multiprocessing.spawn(train, (str(tmp_path), files), nprocs=2)

    def state(name: str, number: int = 4) -> dict:
        checkpoint = load_from_local(str(tmp_path / name / f'iter_{number}.pth'))
        return {part: checkpoint[part] for part in ('state_dict', 'optimizer')}

    for kind in KINDS:
        found = state(f'{kind}_sharded')
        torch.testing.assert_close(found, state(f'{kind}_ddp'), msg=kind)
        start = state(f'{kind}_sharded', 2)['state_dict']
        assert any(not torch.equal(start[n], t) for n, t in found['state_dict'].items()), kind
    undisturbed = state('toast_sharded')
    torch.testing.assert_close(state('resumed_sharded'), undisturbed, rtol=0, atol=0)
    torch.testing.assert_close(state('resumed_ddp'), undisturbed)

    assert f'backbone.{RECORD}' in undisturbed['state_dict']
    task_file = str(tmp_path / 'toast_sharded' / 'iter_4.pth')
    weights = load_model(Config.fromfile(files[0]), task_file).state_dict()
    for name, tensor in torch.load(base['checkpoint']).items():
        assert torch.equal(weights[f'backbone.{name}'], tensor), name


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            dict(optim_wrapper__type='AmpOptimWrapper'),
            "optim_wrapper.type='AmpOptimWrapper' does not work .* 'toast_mm.BFloat16OptimWrapper'",
        ),
        (dict(custom_hooks=[dict(type='EMAHook')]), 'EMAHook does not .*: it copies the model'),
        (dict(channels_last=True), 'ChannelsLastHook does not work with FullySharded'),
    ],
)
def test_what_does_not_work_is_an_error_before_the_training(changes, message, job, one_process):
    with pytest.raises(ConfigError, match=message):
        Runner.from_cfg(job('refused', model_wrapper_cfg=SHARDED, **changes))


@pytest.mark.parametrize('key', ['val_evaluator', 'test_evaluator'])
@pytest.mark.parametrize('others', [[], [dict(type='Accuracy')]])
def test_a_metric_that_runs_blocks_alone_is_refused(key, others):
    metric = dict(type='toast_mm.AttentionInside')
    with pytest.raises(ConfigError, match=f'^{key}: AttentionInside does not work with'):
        check_sharding(Config({key: [*others, metric] if others else metric}), [])


def test_a_hook_that_is_refused_is_refused_in_other_hands(job):
    """A subclass does what its parent does."""

    class OwnAverages(EMAHook):
        pass

    cfg = job('own')
    check_sharding(cfg, [CheckpointHook()])
    with pytest.raises(ConfigError, match=r'^EMAHook does not work .*: it copies the model'):
        check_sharding(cfg, [CheckpointHook(), OwnAverages()])


def test_a_backbone_that_does_not_name_its_blocks_is_refused():
    model = torch.nn.Module()
    model.backbone = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r'Linear does not name its blocks; use toast_mm'):
        FullyShardedDataParallel(model)


def test_an_old_pytorch_is_refused(monkeypatch):
    monkeypatch.setattr(torch, '__version__', '2.6.0')
    with pytest.raises(ImportError, match=r'needs PyTorch 2\.7 or newer; this is 2\.6\.0'):
        FullyShardedDataParallel(torch.nn.Linear(1, 1))


def test_bfloat16_and_the_test_of_a_checkpoint(job, tmp_path, one_process):
    """In a group of one process the weights are sharded as well."""
    cfg = job('half', model_wrapper_cfg=SHARDED)
    cfg.optim_wrapper.type = 'toast_mm.BFloat16OptimWrapper'
    trained = Runner.from_cfg(cfg)
    trained.train()
    cfg.load_from = str(tmp_path / 'half' / 'iter_4.pth')
    saved = load_from_local(cfg.load_from)['state_dict']._metadata
    assert saved == load_model(cfg, cfg.load_from).state_dict()._metadata, (
        'versions, by which layers read files'
    )
    cfg.test_dataloader = dict(cfg.train_dataloader, sampler=dict(type='toast_mm.DefaultSampler'))
    cfg.update(test_cfg=dict(), test_evaluator=dict(type='mmpretrain.Accuracy'))
    tested = Runner.from_cfg(cfg)
    tested.test()
    weights = dict(tested.model.named_parameters())
    for name, parameter in trained.model.named_parameters():
        assert torch.equal(weights[name].full_tensor(), parameter.full_tensor()), name


def test_without_processes_the_model_is_not_sharded(job):
    cfg = job('alone', model_wrapper_cfg=SHARDED)
    cfg.launcher = 'none'
    assert not isinstance(Runner.from_cfg(cfg).model, FullyShardedDataParallel)
