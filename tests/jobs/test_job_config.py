"""Configs from a backbone, data and a method."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from own_images import fill_folder, write_pairs

from toast_mm.engine.config import ConfigError, read_config
from toast_mm.engine.config_check import check_config
from toast_mm.engine.dataloaders import build_dataloader
from toast_mm.engine.model import build_model
from toast_mm.files import WriteError
from toast_mm.jobs import job_config, method_names
from toast_mm.jobs.bases import CONFIGS, base_names, find_base
from toast_mm.jobs.writing import job_name

FAST = ('inca', 'lora', 'toast')


def published(method):
    """Config of a method for ViT-B/16, read apart from the package."""
    return read_config(str(CONFIGS / 'fgvc' / f'{method}_vit-b16-in1k_1xb32-100e_fgvc-224x224.py'))


def dataset_of(cfg, split):
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return build_dataloader(cfg[f'{split}_dataloader'], seed=0).dataset


def plain(value):
    """A setting without the scope that inheriting adds."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key != '_scope_'}
    return value


@pytest.mark.parametrize('task', ['classification', 'segmentation'])
@pytest.mark.parametrize(
    'method', [m if m in FAST else pytest.param(m, marks=pytest.mark.slow) for m in method_names()]
)
def test_every_method_makes_a_job_that_builds(method, task, flowers, fields, tmp_path):
    data = flowers if task == 'classification' else fields
    cfg = job_config('vit-1m', data, method, tmp_path / 'job.py')
    check_config(cfg)
    model = build_model(cfg)
    heads = [cfg.model.get(name) for name in ('head', 'decode_head', 'auxiliary_head')]
    assert {head['num_classes'] for head in heads if head} == {3}
    assert len((tmp_path / 'job.py').read_text().splitlines()) < 60
    backbone = cfg.model.backbone
    if method != 'toast':
        theirs = published(method).model.backbone
        for key, default in dict(feedback_to='first', tuning=None, lite=None, frozen=True).items():
            assert backbone.get(key, default) == theirs.get(key, default), key
        assert backbone.feedback_from == theirs.get('feedback_from', 'last')
    trained = sum(p.requires_grad for p in model.backbone.parameters())
    assert bool(trained) == (method not in ('linear', 'inca'))
    if backbone.feedback_from:
        assert cfg.custom_hooks[-1].type == 'toast_mm.MeanTokenInitHook'
        assert ('pretuned' in backbone) == (backbone.get('feedback_to', 'first') == 'first')


def test_the_lists_are_what_the_data_sets_read(flowers, tmp_path):
    cfg = job_config('vit-1m', flowers, 'linear', tmp_path / 'job.py', batch_size=4, seed=5)
    read = {}
    for split in ('train', 'val', 'test'):
        dataset = dataset_of(cfg, split)
        assert dataset.metainfo['classes'] == ['blåklint', 'ivy', 'red rose']
        for index in range(len(dataset)):
            sample = dataset.get_data_info(index)
            folder = Path(sample['img_path']).parent.name
            assert dataset.metainfo['classes'][sample['gt_label']] == folder
            assert Path(sample['img_path']).is_file()
        read[split] = {dataset.get_data_info(i)['img_path'] for i in range(len(dataset))}
    assert (len(read['train']), len(read['val'])) == (24, 6)
    assert not read['train'] & read['val']
    assert read['test'] == read['val']
    assert cfg.randomness.seed == 5


def test_masks_are_read_as_listed(fields, tmp_path):
    cfg = job_config('vit-1m', fields, 'linear', tmp_path / 'job.py')
    dataset = dataset_of(cfg, 'val')
    assert len(dataset) == 2
    for sample in dataset:
        assert {*sample['data_samples'].gt_sem_seg.data.unique().tolist()} in ({0, 1}, {0, 2})
    assert dataset.metainfo['palette'][1] == [200, 0, 0]


def test_splits_of_the_user_are_folders(tmp_path):
    for split in ('train', 'val', 'test'):
        write_pairs(tmp_path / 'pairs', [1, 1], split)
        fill_folder(tmp_path / 'folders' / split / 'a', 2, (9, 9, 9))
        fill_folder(tmp_path / 'folders' / split / 'b', 2, (99, 9, 9))
    (tmp_path / 'pairs' / 'classes.txt').write_text('ground\npoppy\n')
    for data, number in (('pairs', 2), ('folders', 4)):
        cfg = job_config('vit-1m', tmp_path / data, 'linear', tmp_path / f'{data}.py')
        for split in ('train', 'val', 'test'):
            dataset = dataset_of(cfg, split)
            assert len(dataset) == number
            assert f'/{split}/' in dataset.get_data_info(0)['img_path']
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'folders', 'folders.py', 'pairs', 'pairs.py',
    ]  # fmt: skip


def test_a_relative_path_works_from_another_folder(flowers, tmp_path, monkeypatch):
    monkeypatch.chdir(flowers.parent)
    relative = os.path.relpath(tmp_path / 'job.py')
    job_config('vit-1m', flowers.name, 'linear', relative)
    monkeypatch.chdir(tmp_path)
    cfg = read_config('job.py')
    assert len(dataset_of(cfg, 'train')) == 24


def kinds_of(cfg) -> list[str]:
    return [step.type.rpartition('.')[-1] for step in cfg.train_dataloader.dataset.pipeline]


@pytest.mark.parametrize('backbone', ['vit-1m', 'vit-b16-in21k'])
@pytest.mark.parametrize('flip', [True, False])
def test_flips_of_masks(backbone, flip, fields, tmp_path):
    kinds = kinds_of(job_config(backbone, fields, 'linear', tmp_path / 'a.py', flip=flip))
    assert ('RandomFlip' in kinds) == flip
    assert 'RandomCrop' in kinds


def test_sizes_flips_and_length(flowers, fields, tmp_path):
    settings = dict(image_size=32, flip=False, epochs=7, batch_size=5, lr=0.02)
    cfg = job_config('vit-1m', flowers, 'linear', tmp_path / 'a.py', **settings)
    kinds = kinds_of(cfg)
    assert 'RandomFlip' not in kinds and 'RandomResizedCrop' in kinds
    pipelines = (cfg[f'{split}_dataloader'].dataset.pipeline for split in ('train', 'val', 'test'))
    sizes = [step.scale for steps in pipelines for step in steps if 'scale' in step]
    assert sizes == [(32, 32)] * 3
    assert cfg.model.backbone.img_size == 32
    assert cfg.train_dataloader.batch_size == 5
    assert cfg.optim_wrapper.optimizer.lr == 0.02
    assert (cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval) == (7, 7)
    assert [(p.get('begin', 0), p.end) for p in cfg.param_scheduler] == [(0, 1), (1, 7)]
    cfg = job_config('vit-1m', fields, 'linear', tmp_path / 'b.py', image_size=64, max_iters=60)
    steps = cfg.train_dataloader.dataset.pipeline
    assert [s.crop_size for s in steps if 'crop_size' in s] == [(64, 64)]
    assert cfg.model.data_preprocessor.size == (64, 64)
    assert [(p.begin, p.end) for p in cfg.param_scheduler] == [(0, 5), (5, 60)]
    assert cfg.default_hooks.checkpoint.interval == 20
    assert cfg.default_hooks.checkpoint.by_epoch is False


@pytest.mark.parametrize(
    ('images', 'batch', 'epochs'),
    [
        (5, 8, 100),  # 8 of 10 images train, in one step
        (20, 10, 25),  # 32 train, in four steps
        (90, 32, 20),  # as the schedule
    ],
)
def test_few_images_get_small_batches_and_more_epochs(tmp_path, images, batch, epochs):
    for name in 'ab':
        (tmp_path / 'data' / name).mkdir(parents=True)
        for number in range(images):
            (tmp_path / 'data' / name / f'{number}.png').touch()
    cfg = job_config('vit-1m', tmp_path / 'data', 'linear', tmp_path / 'job.py')
    assert (cfg.train_dataloader.batch_size, cfg.train_cfg.max_epochs) == (batch, epochs)


@pytest.mark.parametrize('length', [1, 2])
def test_the_shortest_schedules_have_no_empty_phase(flowers, tmp_path, length):
    cfg = job_config('vit-1m', flowers, 'linear', tmp_path / 'a.py', epochs=length)
    assert all(phase.get('begin', 0) < phase.end for phase in cfg.param_scheduler)
    assert cfg.param_scheduler[-1].end == length


@pytest.mark.parametrize('method', ['toast-last', 'lora', 'finetune', 'inca'])
def test_a_large_backbone_has_the_published_recipe(flowers, tmp_path, method):
    cfg = job_config('vit-b16_in1k', flowers, method, tmp_path / 'job.py')
    theirs = published(method)
    assert plain(cfg.optim_wrapper) == plain(theirs.optim_wrapper)
    assert plain(cfg.param_scheduler) == plain(theirs.param_scheduler)
    assert plain(cfg.train_cfg) == plain(theirs.train_cfg)
    assert cfg.train_dataloader.batch_size == 32
    assert plain(cfg.model.backbone.init_cfg) == plain(theirs.model.backbone.init_cfg)


def test_the_environment_does_not_choose_the_recipe(flowers, tmp_path, monkeypatch):
    monkeypatch.setenv('DATASET', 'none of ours')
    job_config('vit-b16-in1k', flowers, 'ssf', tmp_path / 'job.py')
    assert os.environ['DATASET'] == 'none of ours'


@pytest.mark.parametrize('name', ['test_vit', 'test_efficientnet'])
def test_models_of_timm(flowers, tmp_path, name):
    cfg = job_config(name, flowers, 'toast', tmp_path / 'job.py')
    assert cfg.model.data_preprocessor.model_name == name
    assert cfg.model.backbone.pretrained is True
    cfg.model.backbone.pretrained = False
    model = build_model(cfg)
    images = torch.zeros(2, 3, *[find_base(name, 'classification').image_size] * 2)
    assert model.head(model.extract_feat(images)).shape == (2, 3)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['test_vit', 'test_efficientnet'])
def test_models_of_timm_for_segmentation(fields, tmp_path, name):
    cfg = job_config(name, fields, 'toast', tmp_path / 'job.py', image_size=64)
    cfg.model.backbone.pretrained = False
    cfg.model.decode_head.norm_cfg = cfg.model.auxiliary_head.norm_cfg = dict(type='BN')
    model = build_model(cfg).eval()
    maps = model.extract_feat(torch.zeros(1, 3, 64, 64))
    assert model.decode_head(maps).shape[1] == model.auxiliary_head(maps).shape[1] == 3


def test_checkpoints_replace_those_of_the_base(flowers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = job_config('vit-b16-in21k', flowers, 'linear', 'a.py', checkpoint='mine.pth')
    assert cfg.model.backbone.init_cfg == dict(
        type='Pretrained', checkpoint=str(tmp_path / 'mine.pth'), prefix='backbone.'
    )
    cfg = job_config('vit-b14-dinov2', flowers, 'linear', 'b.py', checkpoint='hf://a/b')
    assert cfg.model.backbone.init_cfg == dict(type='Pretrained', checkpoint='hf://a/b')
    assert cfg.model.backbone.pretrained is False


def test_names(flowers, fields):
    assert find_base('VIT-1m', 'classification').name == 'vit-1m-tinyin100'
    assert find_base('vit_b16_in21k', 'segmentation').config == 'upernet_toast-vit-b16-in21k'
    assert 'convnext-b-dinov3' in base_names('segmentation')
    assert job_name('vit_tiny.a b', '/x/my flowers/', 'lora') == 'lora_vit_tiny-a-b_my-flowers'


@pytest.mark.parametrize(
    ('data', 'arguments', 'message'),
    [
        ('flowers', dict(backbone='vit-2m'), "'vit-2m' is none of .*near names: vit-1m"),
        ('flowers', dict(backbone='vit-b16'), 'may be vit-b16-in1k or vit-b16-in21k'),
        ('fields', dict(backbone='convnext-1m'), "'convnext-1m' is for classification"),
        ('flowers', dict(method='tost'), "method='tost' is none of .*near names: toast"),
        ('flowers', dict(backbone='vit-b16-in1k', method='toast-lite'), 'comes with none'),
        ('flowers', dict(method='lora', pretuned='x.safetensors'), "'lora' has no feedback"),
        ('flowers', dict(max_iters=9), 'max_iters=9: for classification say epochs'),
        ('fields', dict(epochs=9), 'epochs=9: for segmentation say max_iters'),
        ('flowers', dict(epochs=0), 'epochs=0 must be at least 1'),
        ('flowers', dict(lr=-1.0), 'lr=-1.0 must be above 0'),
        ('flowers', dict(seed=-1), 'seed=-1 must be at least 0'),
        ('flowers', dict(backbone='vit-b14-dinov2', image_size=64), 'must be a multiple of 14'),
        ('flowers', dict(out='job.txt'), 'job.txt must end in .py'),
        ('flowers', dict(out='numbers.py'), 'numbers.py has the name of a module of Python'),
    ],
)
def test_wrong_arguments(request, tmp_path, data, arguments, message):
    data = request.getfixturevalue(data)
    arguments = dict(dict(backbone='vit-1m', method='toast', out=tmp_path / 'job.py'), **arguments)
    with pytest.raises(ConfigError, match=message):
        job_config(data=data, **arguments)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (dict(backbone=None), 'backbone=None must be str'),
        (dict(method=['lora']), r"method=\['lora'\] must be str"),
        (dict(data=None), r'data=None must be str \| Path'),
        (dict(epochs='3'), r"epochs='3' must be int \| None"),
        (dict(lr='1e-3'), r"lr='1e-3' must be float \| None"),
        (dict(flip='no'), "flip='no' must be bool"),
    ],
)
def test_arguments_of_another_type(flowers, tmp_path, arguments, sentence):
    given = dict(backbone='vit-1m', data=flowers, method='toast', out=tmp_path / 'job.py')
    with pytest.raises(TypeError, match=f'^job_config: {sentence}$'):
        job_config(**{**given, **arguments})
    assert not any(tmp_path.iterdir())


def test_nothing_is_replaced(flowers, tmp_path):
    job_config('vit-1m', flowers, 'linear', tmp_path / 'job.py')
    before = (tmp_path / 'job.py').read_text()
    with pytest.raises(WriteError, match=r'job\.py exists already'):
        job_config('vit-1m', flowers, 'lora', tmp_path / 'job.py')
    assert (tmp_path / 'job.py').read_text() == before
    job_config('vit-1m', flowers, 'lora', tmp_path / 'job.py', overwrite=True)
    assert 'LoRA' in (tmp_path / 'job.py').read_text()
    with pytest.raises(WriteError, match=r'cannot be written: .*job\.py is no folder'):
        job_config('vit-1m', flowers, 'linear', tmp_path / 'job.py' / 'other.py')
