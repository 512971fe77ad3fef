"""Wrong settings end in an error that names the setting or its value."""

import copy
from pathlib import Path

import pytest
import torch
from bad_families.bad_settings import OURS, bad_settings
from commands import ROOT, as_in_a_new_process, tiny_ade20k
from mmengine.config import Config

from toast_mm.command_line import argument_parser
from toast_mm.engine.config import apply_options, read_config
from toast_mm.engine.explain import explained
from toast_mm.engine.runner import build_runner


@pytest.fixture
def classifier(classifier_job) -> Config:
    cfg = read_config(str(classifier_job))
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1)
    return cfg


@pytest.fixture
def segmentor(ade20k) -> Config:
    short = {
        **{'train_cfg.max_iters': '1', 'train_cfg.val_interval': '1'},
        **{'param_scheduler.0.end': '1', 'param_scheduler.1.begin': '1'},
        'param_scheduler.1.end': '2',
    }
    parser = argument_parser('')
    args = parser.parse_args(['x.py', *tiny_ade20k(ade20k, **short)])
    cfg = read_config(str(ROOT / 'configs/ade20k_toast_upernet.py'))
    apply_options(cfg, args.cfg_options)
    return cfg


def train(cfg: Config, work_dir: Path) -> None:
    as_in_a_new_process()
    cfg.launcher, cfg.work_dir, cfg.log_level = 'none', str(work_dir), 'ERROR'
    torch.manual_seed(0)
    with explained(cfg):
        build_runner(cfg).train()


def check(base: Config, cases: list, work_dir: Path) -> None:
    faults = []
    for key, value in cases:
        cfg = copy.deepcopy(base)
        try:
            apply_options(cfg, {key: copy.deepcopy(value)})
            train(cfg, work_dir)
        except Exception as error:
            *_, last = (part for part in key.split('.') if not part.isdigit())
            sentence = str(error)
            if '\n' in sentence or not (last in sentence or str(value) in sentence):
                faults.append(f'{key}={value!r}: {type(error).__name__}: {sentence}')
        else:
            if key.startswith(OURS) and isinstance(value, str):
                faults.append(f'{key}={value!r} counts')
    assert not faults, '\n'.join(faults)


@pytest.mark.parametrize('job', ['classifier', 'segmentor'])
def test_a_few(job, request, tmp_path):
    base = request.getfixturevalue(job)
    check(base, bad_settings(base, 10, seed=1), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('job', ['classifier', 'segmentor'])
def test_many(job, request, tmp_path):
    base = request.getfixturevalue(job)
    check(base, bad_settings(base, 120), tmp_path)


@pytest.mark.parametrize(
    'job, settings, sentence',
    [
        ('classifier', {'model.backbone.lite': 4}, r'^TOASTViT: lite=4 must be Mapping'),
        ('classifier', {'model.backbone.token_selection': 'maybe'}, 'token_selection=.*True or'),
        (
            'classifier',
            {'model.backbone.feedback_gain': 'abc'},
            "gain='abc' must be",
        ),
        ('classifier', {'model.backbone.arch.num_heads': 5}, r'num_heads=5 must divide .*dims=16'),
        ('classifier', {'model.backbone.out_type': 'raw'}, r"out_type='raw' .*'cls_token'"),
        ('classifier', {'first_pass_cache': 'yes'}, "first_pass_cache='yes' must be True or False"),
        (
            'classifier',
            {'optim_wrapper.optimizer.type': 'Adamw'},
            r"optimizer\.type='Adamw' is not an optimizer; near names: .*AdamW",
        ),
        (
            'classifier',
            {'default_hooks.checkpoint.save_best': 'mIoU'},
            r"save_best='mIoU' is not a metric of the validation; there are: accuracy/top1",
        ),
        ('segmentor', {'model.decode_head.in_index': [0, 1]}, r'in_index=\[0, 1\] .*same length'),
        ('segmentor', {'model._scope_': 'no'}, r"type='EncoderDecoder' in _scope_='no' names no"),
        ('segmentor', {'model.test_cfg.mode': 'slide'}, r'crop_size=\(H, W\) and stride'),
        ('segmentor', {'train_dataloader.batch_size': 1}, r'batch_size must be at least 2'),
        (
            'segmentor',
            {'model.backbone.init_cfg': dict(type='Pretrained', checkpoint='torchvision://no')},
            'torchvision://no',
        ),
        (
            'classifier',
            {'train_dataloader.dataset.data_root': 'not/here'},
            r"^train_dataloader\.dataset \(CustomDataset\) cannot be built: .*'not/here/?'",
        ),
        (
            'segmentor',
            {'train_dataloader.dataset.ann_file': 'not/here.txt'},
            r'^train_dataloader\.dataset \(ADE20KDataset\) cannot be built: .*not/here\.txt',
        ),
    ],
)
def test_sentences(job, settings, sentence, request, tmp_path):
    cfg = request.getfixturevalue(job)
    with pytest.raises((ValueError, TypeError, RuntimeError), match=sentence) as error:
        apply_options(cfg, settings)
        train(cfg, tmp_path)
    assert '\n' not in str(error.value)
