"""Every classification config builds with a tiny arch; one config of each form trains."""

import os
import re
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from job_files import (
    CLASSIFICATION,
    CONFIGS,
    build,
    full_size,
    is_tuned,
    load,
    name,
    narrow,
    pixel_statistics,
    representatives,
)
from mmengine.config import Config
from mmengine.registry import MODELS, RUNNERS, DefaultScope
from mmengine.runner import Runner

from toast_mm.registry import type_name

PRETUNE = [path for path in CLASSIFICATION if path.match('pretune/toast-*')]


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def shrink(cfg: Config) -> Config:
    """The same job with narrow layers, without weights."""
    channels = narrow(cfg)
    several = isinstance(cfg.model.head.in_channels, list)  # of InCA on stages
    cfg.model.head.in_channels = channels if several else channels[-1]
    cfg.model.head.pop('init_cfg', None)
    return cfg


def on_data(cfg: Config, folders, cub) -> Config:
    """The same config on the data of a test."""
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False, batch_size=4)
        if loader.dataset.type == 'mmpretrain.CUB':  # a small config
            loader.dataset.data_root = str(cub)
        else:
            loader.dataset = dict(
                type='CustomDataset',
                data_root=f'{folders}/train',
                pipeline=loader.dataset.pipeline,
            )
    return cfg


@pytest.mark.parametrize('path', CLASSIFICATION, ids=name)
def test_what_trains(path):
    cfg = shrink(load(path))
    model = MODELS.build(cfg.model)
    toast = cfg.model.backbone.type.startswith('toast_mm.')
    steered = toast and cfg.model.backbone.get('feedback_from') is not None
    for parameter_name, parameter in model.named_parameters():
        assert parameter.requires_grad == is_tuned(cfg, parameter_name), parameter_name
    assert any('topdown' in n for n, _ in model.named_parameters()) == steered
    assert model.head.num_classes == cfg.num_classes


@pytest.mark.parametrize('path', representatives(CLASSIFICATION), ids=name)
def test_jobs_train_and_predict(path, folders, cub):
    cfg = on_data(shrink(load(path)), folders, cub)
    torch.manual_seed(0)
    model = build(cfg)

    model.train()
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
    data = model.data_preprocessor(batch, training=True)
    size = next((size for size in (64, 128) if f'{size}x{size}' in path.stem), 224)
    assert data['inputs'].shape == (4, 3, size, size)
    if not cfg.model.get('train_cfg'):  # with mixup
        mean, std = pixel_statistics(cfg)
        expected = (batch['inputs'][0].flip(0).float() - mean) / std  # BGR to RGB
        torch.testing.assert_close(data['inputs'][0], expected)

    losses = model.loss(**data)
    names = {'loss', 'loss_var'} if path in PRETUNE else {'loss'}
    if path.name.startswith('inca'):  # a loss for every layer
        names = {f'loss_layer{layer}' for layer in range(4)}
    assert set(losses) == names
    total = sum(losses.values())
    assert total.isfinite() and total > 0
    total.backward()
    for parameter_name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == is_tuned(cfg, parameter_name), parameter_name

    model.eval()
    sample = next(iter(Runner.build_dataloader(cfg.test_dataloader, seed=0)))
    with torch.no_grad():
        result = model.test_step(sample)[0]
    assert result.pred_score.shape == (cfg.num_classes,)
    assert result.pred_score.sum().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ('job', 'blocks', 'source', 'dim', 'mean'),
    [
        ('toast-last_vit-b16-in1k_8xb64-30e_in1k', 12, 12, 768, 123.675),
        ('toast-last_vit-b16-in21k_8xb64-30e_in1k', 12, 12, 768, 127.5),
        ('toast-last_vit-l16-in21k_8xb64-30e_in1k', 24, 24, 1024, 127.5),
        ('toast-early_vit-b16-in21k_8xb64-30e_in1k', 12, 6, 768, 127.5),
        ('toast-last_convnext-b-in1k_8xb64-30e_in1k', 4, 4, 1024, 123.675),
    ],
)
def test_full_size_pretuning_follows_the_paper(job, blocks, source, dim, mean):
    """Sec. A.2: 30 epochs, 3 of warm-up, 3 of cool-down, AdamW 5e-4, no mixup, weight 0.03."""
    cfg = load(CONFIGS / 'pretune' / f'{job}.py')
    model = full_size(cfg)
    route = model.backbone.route
    assert (route.depth, route.feedback_from, route.feedback_to) == (blocks, source, 0)
    assert model.backbone.topdown.selection.task_embedding.shape == (dim,)
    assert model.variational_weight == 0.03 and model.head.num_classes == 1000
    assert cfg.train_cfg.max_epochs == 30
    assert [(s.get('begin', 0), s.end) for s in cfg.param_scheduler] == [(0, 3), (3, 27)]
    assert (cfg.optim_wrapper.optimizer.type, cfg.optim_wrapper.optimizer.lr) == ('AdamW', 5e-4)
    assert 'train_cfg' not in cfg.model
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 512
    assert cfg.custom_hooks[-1].type == 'toast_mm.PretunedHook'
    assert cfg.model.data_preprocessor.mean[0] == mean
    assert cfg.train_dataloader.dataset.type == 'ImageNet'
    assert cfg.train_dataloader.dataset.pipeline[0].type == 'toast_mm.SeedAugmentation'


FINE_GRAINED = {
    'cub': ('CUB', 200, 0.03, 5e-4),
    'nabirds': ('NABirds', 555, 0.01, 1e-2),
    'flowers': ('Flowers102', 102, 0.01, 1e-4),
    'dogs': ('StanfordDogs', 120, 0.02, 1e-4),
    'cars': ('StanfordCars', 196, 0.02, 1e-4),
}


def fgvc(method: str, backbone: str, data: str) -> Config:
    with mock.patch.dict(os.environ, DATASET=data):
        return Config.fromfile(CONFIGS / f'fgvc/{method}_{backbone}_1xb32-100e_fgvc-224x224.py')


OF_THE_PAPER = ('vit-b16-in1k', 'vit-l16-in21k', 'convnext-b-in1k')
TRANSFER = [
    path
    for path in CLASSIFICATION
    if path.parent.name in ('fgvc', 'vtab') and not path.stem.startswith('inca')  # not the paper's
]


@pytest.mark.parametrize('data', FINE_GRAINED)
@pytest.mark.parametrize(
    ('backbone', 'dim', 'mean'),
    [
        ('vit-b16-in1k', 768, 123.675),
        ('vit-b16-in21k', 768, 127.5),
        ('vit-l16-in21k', 1024, 127.5),
        ('convnext-b-in1k', 1024, 123.675),
    ],
)
def test_fine_grained_jobs_follow_the_published_recipe(data, backbone, dim, mean):
    cfg = fgvc('toast-last', backbone, data)
    dataset, classes, rate, decay = FINE_GRAINED[data]
    assert (cfg.optim_wrapper.optimizer.lr, cfg.optim_wrapper.optimizer.weight_decay) == (
        rate,
        decay,
    )
    assert cfg.model.head.num_classes == cfg.model.data_preprocessor.num_classes == classes
    assert cfg.model.head.in_channels == dim and cfg.model.data_preprocessor.mean[0] == mean
    assert cfg.model.backbone.feedback_from == 'last'
    for loader, split in (('train', 'trainval'), ('val', 'test'), ('test', 'test')):
        part = cfg[f'{loader}_dataloader'].dataset
        assert (part.type, part.split) == (f'toast_mm.{dataset}', split)
    steps = [type_name(step) for step in cfg.train_dataloader.dataset.pipeline[2:]]
    assert steps == ['ResizeEdge', 'RandomCrop', 'RandomFlip', 'PackInputs']
    steps = [type_name(step) for step in cfg.test_dataloader.dataset.pipeline[1:]]
    assert steps == ['ResizeEdge', 'CenterCrop', 'PackInputs']


@pytest.mark.parametrize('data', FINE_GRAINED)
@pytest.mark.parametrize(
    ('method', 'backbone', 'rate'),
    [
        ('linear', 'vit-b16-in1k', 0.01),
        ('vpt', 'vit-b16-in1k', 0.01),
        *(('lora', backbone, 0.01) for backbone in OF_THE_PAPER),
        *(('finetune', backbone, 0.003) for backbone in OF_THE_PAPER),
    ],
)
def test_methods_of_comparison_have_the_rates_of_the_paper(data, method, backbone, rate):
    """The paper's text: 0.01 for LoRA and VPT, 0.003 for full fine-tuning; data as for TOAST."""
    cfg, toast = (fgvc(name, backbone, data) for name in (method, 'toast-last'))
    assert cfg.optim_wrapper.optimizer.lr == rate
    assert cfg.optim_wrapper.optimizer.weight_decay == FINE_GRAINED[data][3]
    for part in ('train_dataloader', 'test_dataloader', 'param_scheduler', 'train_cfg'):
        assert cfg[part] == toast[part]


@pytest.mark.parametrize('path', TRANSFER, ids=name)
def test_transfer_follows_the_published_recipe(path):
    """SGD 0.9, 100 epochs of batches of 32, warm-up, cosine by epoch; all but a bias decays."""
    cfg = load(path)
    gpus = re.search(r'_(\d+)xb', path.name)
    assert gpus and int(gpus[1]) * cfg.train_dataloader.batch_size == 32
    assert cfg.train_cfg.max_epochs == 100
    assert [(s.type, s.get('begin', 0), s.end) for s in cfg.param_scheduler] == [
        ('LinearLR', 0, 10),
        ('CosineAnnealingLR', 10, 100),
    ]
    channels = narrow(cfg)
    cfg.model.head.in_channels = channels[-1]
    model = build(cfg)
    assert cfg.model.head.loss == dict(type='CrossEntropyLoss')
    wrapper = RUNNERS.get('toast_mm.Runner').build_optim_wrapper(
        SimpleNamespace(model=model), cfg.optim_wrapper
    )
    decay = cfg.optim_wrapper.optimizer.weight_decay
    decayed = {id(p): g['weight_decay'] for g in wrapper.param_groups for p in g['params']}
    free = [
        parameter_name
        for parameter_name, parameter in model.named_parameters()
        if parameter.requires_grad and decayed[id(parameter)] != decay
    ]
    assert len(free) == 1 and free[0].startswith('head.') and free[0].endswith('.bias')
    (bias,) = (p for n, p in model.named_parameters() if n == free[0])
    torch.testing.assert_close(bias.sigmoid(), torch.full_like(bias, 0.01))
    (weight,) = (p for n, p in model.named_parameters() if n == free[0].replace('bias', 'weight'))
    assert weight.std().item() == pytest.approx((2 / len(weight)) ** 0.5, rel=0.1)


@pytest.mark.parametrize('path', [p for p in TRANSFER if p.parent.name == 'vtab'], ids=name)
def test_vtab_jobs_follow_the_published_recipe(path):
    cfg = load(path)
    large = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50]
    grids = {'finetune': [1e-4, 5e-4, 1e-3, 5e-3], 'vpt': large, 'linear': large}
    grid = grids.get(path.name.split('_')[0], [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0])
    assert sorted(cfg.search.lr) == grid
    assert sorted(cfg.search.weight_decay) == [0, 1e-4, 1e-3, 1e-2]
    assert cfg.search.seeds == [42, 44, 82, 100, 800]
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=256)
    for loader in ('train', 'val', 'test'):
        pipeline = cfg[f'{loader}_dataloader'].dataset.pipeline
        assert [type_name(step) for step in pipeline][1:] == ['Resize', 'PackInputs']
        assert pipeline[1].scale == (224, 224)


def test_base_training_follows_the_paper():
    """Sec. A.1: DeiT's recipe, AdamW, 300 epochs, batch 512, 5e-4, 5 epochs of warm-up."""
    cfg = load(CONFIGS / 'pretrain' / 'vit-b16_8xb64-300e_in1k.py')
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[-1].end == 300
    assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin == 5
    assert len(cfg.param_scheduler) == 2
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 512
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 5e-4, 0.05)
    augments = {augment.type: augment.alpha for augment in cfg.model.train_cfg.augments}
    assert augments == {'Mixup': 0.8, 'CutMix': 1.0}
    assert cfg.model.backbone.drop_path_rate == 0.1
    assert cfg.model.backbone.type == 'VisionTransformer' and cfg.model.backbone.init_cfg is None


def test_small_bases_are_of_one_size():
    sizes = {}
    for path in (CONFIGS / 'pretrain').glob('*_tinyin100-64x64.py'):
        backbone = full_size(load(path)).backbone
        sizes[path.name.split('_')[0]] = sum(p.numel() for p in backbone.parameters())
    assert sizes == {'vit-1m': 1_308_320, 'convnext-1m': 1_488_544}
