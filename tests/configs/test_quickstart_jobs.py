"""Configs of the quickstart: the data they use, and a fair comparison with the linear probe."""

import re
from pathlib import Path

import digits_drawing
import pytest
import torch
from digits_files import make_digits
from job_files import CONFIGS, DIM, QUICKSTART, build, load, name, narrow
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

PAIRS = [
    (path, path.with_name(path.name.replace('toast-', 'linear-', 1)))
    for path in QUICKSTART
    if path.name.startswith('toast-')
]
SIZES = dict(scenes=dict(train=8, val=2, test=2), cued=dict(train=40, val=10, test=10))


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'digits'
    make_digits(root, SIZES)
    return root


def test_every_job_has_its_counterpart():
    assert len(PAIRS) == 2 and sorted(path for pair in PAIRS for path in pair) == QUICKSTART


@pytest.mark.parametrize(('toast', 'linear'), PAIRS, ids=lambda path: name(path))
def test_the_linear_probe_differs_in_the_method_only(toast, linear):
    ours, theirs = (load(path).to_dict() for path in (toast, linear))
    assert ours['model']['backbone'].pop('feedback_from') in ('last', 'middle')
    assert theirs['model']['backbone'].pop('feedback_from') is None
    assert ours['model']['backbone'].pop('pretuned').startswith('toast_mm://')
    assert theirs['model']['backbone'].pop('pretuned') is None
    assert ours['custom_hooks'].pop()['type'] == 'toast_mm.MeanTokenInitHook'
    assert ours == theirs


@pytest.mark.parametrize('path', QUICKSTART, ids=name)
def test_names_say_the_schedule(path):
    cfg = load(path)
    batch_size, length, unit = re.search(r'_1xb(\d+)-(\d+)(e?)_', path.name).groups()
    assert cfg.train_dataloader.batch_size == int(batch_size)
    assert cfg.train_cfg.get('max_epochs' if unit else 'max_iters') == int(length)
    assert max(scheduler.end for scheduler in cfg.param_scheduler) == int(length)


def test_classes_are_those_that_are_drawn():
    scenes = load(CONFIGS / '_base_/datasets/digits_scenes.py')
    assert tuple(scenes.metainfo.classes) == digits_drawing.CLASSES
    assert tuple(map(tuple, scenes.metainfo.palette)) == digits_drawing.PALETTE
    assert scenes.num_classes == len(digits_drawing.CLASSES)
    assert load(CONFIGS / '_base_/datasets/digits_cued.py').num_classes == 10


@pytest.mark.parametrize('path', QUICKSTART, ids=name)
def test_jobs_train_on_digits(path, data):
    cfg = load(path)
    narrow(cfg)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        root = Path(loader.dataset.data_root).relative_to('data/digits')
        loader.dataset.data_root = str(data / root)
    if 'neck' in cfg.model:
        cfg.model.neck.embed_dim = DIM
        cfg.model.decode_head.in_channels = [DIM] * 4
        cfg.model.auxiliary_head.in_channels = DIM
        for part in ('neck', 'decode_head', 'auxiliary_head'):
            cfg.model[part].norm_cfg.type = 'BN'
    else:
        cfg.model.head.in_channels = DIM

    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        torch.manual_seed(0)
        model = build(cfg)
        model.train()
        batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
        inputs = model.data_preprocessor(batch, training=True)
        assert inputs['inputs'].shape == (cfg.train_dataloader.batch_size, 3, 64, 64)
        total = sum(value for key, value in model.loss(**inputs).items() if 'loss' in key)
        assert total.isfinite() and total > 0
        total.backward()
        model.eval()
        sizes = []
        for loader in (cfg.val_dataloader, cfg.test_dataloader):
            results = model.test_step(next(iter(Runner.build_dataloader(loader, seed=0))))
            sizes.append(len(results))
    assert sizes == ([2, 2] if 'neck' in cfg.model else [10, 10])
    tuned = {n.split('.')[0] for n, p in model.named_parameters() if p.grad is not None}
    steered = path.name.startswith('toast-')
    heads = {'neck', 'decode_head', 'auxiliary_head'} if 'neck' in cfg.model else {'head'}
    assert tuned == heads | ({'backbone'} if steered else set())
