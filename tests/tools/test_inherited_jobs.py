"""Jobs that a user inherits by name, trained by the tools of mmseg, of mmpretrain, and by ours."""

import importlib.util
from pathlib import Path

import pytest
import torch
from digits_files import make_digits

TRAIN = {'toast_mm': 'train'} | {
    package: str(Path(importlib.util.find_spec(package).origin).parent / '.mim/tools/train')
    for package in ('mmseg', 'mmpretrain')
}

# A narrow ViT without weights.
NARROW = {
    'model.backbone.arch._delete_': True,
    'model.backbone.arch.embed_dims': 16,
    'model.backbone.arch.num_layers': 12,
    'model.backbone.arch.num_heads': 2,
    'model.backbone.arch.feedforward_channels': 16,
    'model.backbone.init_cfg': None,
}
NARROW_CONVNEXT = {
    'model.backbone.arch._delete_': True,
    'model.backbone.arch.depths': [1, 1, 1, 1],
    'model.backbone.arch.channels': [8, 8, 8, 16],
    'model.backbone.init_cfg': None,
}
HEADS = {
    'model.decode_head.in_channels': [16] * 4,
    'model.decode_head.channels': 8,
    'model.auxiliary_head.in_channels': 16,
    'model.auxiliary_head.channels': 8,
}
HEAD = {'model.head.in_channels': 16}
TWO_CLASSES = {
    'model.head.num_classes': 2,
    'model.data_preprocessor.num_classes': 2,
    'val_evaluator.topk': 1,
}
# Scopes, data and settings that make a config small: one of each form.
SEGMENTATION = {
    '_base_/../ade20k_toast_upernet.py': (
        'ade20k',
        {
            **NARROW,
            **HEADS,
            'model.data_preprocessor.size': '(64,64)',
            'train_dataloader.dataset.pipeline.3.scale': '(64,48)',
            'train_dataloader.dataset.pipeline.4.crop_size': '(64,64)',
            'val_dataloader.dataset.pipeline.1.scale': '(64,48)',
        },
    ),
    'ade20k/toast-vit-b16_upernet_8xb2-160k_ade20k-512x512_slide.py': (
        'ade20k',
        {**NARROW, **HEADS},
    ),
    'voc12aug/lora-vit-b16_upernet_8xb2-20k_voc12aug-512x512.py': (
        'voc12aug',
        {**NARROW, **HEADS},
    ),
    'voc12aug/inca-vit-b16_8xb2-20k_voc12aug-512x512.py': (
        'voc12aug',
        {**NARROW, 'model.decode_head.in_channels': [16] * 4, 'model.decode_head.channels': 8},
    ),
    'ade20k/toast-last-convnext-b_upernet_8xb2-160k_ade20k-512x512.py': (
        'ade20k',
        {
            **NARROW_CONVNEXT,
            **HEADS,
            'model.decode_head.in_channels': [8, 8, 8, 16],
            'model.auxiliary_head.in_channels': 8,
        },
    ),
    'camvid/toast-vit-1m_upernet_1xb8-600_camvid-96x96.py': ('camvid', {}),
    'quickstart/toast-vit-1m_upernet_1xb16-350_digits-scenes-64x64.py': ('scenes', {}),
}
CLASSIFICATION = {
    'cub25/toast-lite_vit-1m_1xb32-20e_cub25-64x64.py': ('cub', {}),
    'fgvc/toast-last_vit-b16-in21k_1xb32-100e_fgvc-224x224.py': ('cub', {**NARROW, **HEAD}),
    'fgvc/vpt_vit-b16-in1k_1xb32-100e_fgvc-224x224.py': ('cub', {**NARROW, **HEAD}),
    'fgvc/inca_vit-b16-in1k_1xb32-100e_fgvc-224x224.py': ('cub', {**NARROW, **HEAD}),
    'fgvc/toast-last_convnext-b-in1k_1xb32-100e_fgvc-224x224.py': (
        'cub',
        {**NARROW_CONVNEXT, **HEAD},
    ),
    'imagenet_to_sketch/inca_vit-l16-in21k_1xb32-100e_imagenet-to-sketch-224x224.py': (
        'cub',
        {**NARROW, **HEAD, 'task_files': False},  # of no base
    ),
    'novel20/linear_convnext-1m_1xb64-20e_novel20-64x64.py': ('folders', TWO_CLASSES),
    'pretrain/vit-1m_1xb128-75e_tinyin100-64x64.py': ('folders', TWO_CLASSES),
    'pretune/toast-early_vit-1m_1xb128-10e_tinyin100-64x64.py': ('folders', TWO_CLASSES),
    'quickstart/toast-vit-1m_1xb32-400_digits-cued-64x64.py': (
        'cued',
        {'param_scheduler.0.end': 1},
    ),
}
JOBS = {**SEGMENTATION, **CLASSIFICATION}
FAST = [
    ('_base_/../ade20k_toast_upernet.py', 'mmseg'),
    ('fgvc/toast-last_vit-b16-in21k_1xb32-100e_fgvc-224x224.py', 'mmpretrain'),
]
ALL = [
    pytest.param(job, package, marks=[] if (job, package) in FAST else pytest.mark.slow)
    for jobs, family in ((SEGMENTATION, 'mmseg'), (CLASSIFICATION, 'mmpretrain'))
    for job in jobs
    for package in (family, 'toast_mm')
]


@pytest.fixture(scope='module')
def digits(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'digits'
    sizes = dict(train=12, val=4, test=4)
    make_digits(root, dict(scenes=sizes, cued=dict(train=40, val=10, test=10)))
    return root


@pytest.fixture
def roots(request):
    """Where the training and the validation data of a form are."""

    def find(data: str) -> tuple[Path, Path]:
        if data == 'scenes':
            root = request.getfixturevalue('digits') / data
            return root, root
        root = request.getfixturevalue('digits' if data == 'cued' else data)
        root = root / data if data == 'cued' else root
        return (root / 'train', root / 'val') if data in ('cued', 'folders') else (root, root)

    return find


def small(job: str, roots) -> dict:
    """Settings under which a job takes two steps of training and validates."""
    data, settings = JOBS[job]
    train, val = roots(data)
    settings = dict(settings)
    settings['train_dataloader.batch_size'] = 20 if data == 'cued' else 6
    for loader, root in (('train', train), ('val', val), ('test', val)):
        settings[f'{loader}_dataloader.num_workers'] = 0
        settings[f'{loader}_dataloader.pin_memory'] = False  # mmpretrain's tool would say True
        settings[f'{loader}_dataloader.persistent_workers'] = False
        if data == 'voc12aug' and loader == 'train':
            for part in range(2):
                settings[f'train_dataloader.dataset.datasets.{part}.data_root'] = root
        else:
            settings[f'{loader}_dataloader.dataset.data_root'] = root
    if job in SEGMENTATION:
        settings |= {'train_dataloader.batch_size': 2, 'train_cfg.max_iters': 2}
        settings |= {'train_cfg.val_interval': 2, 'default_hooks.checkpoint.interval': 2}
    elif data == 'cued':  # by iteration
        settings |= {'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2}
    else:
        settings |= {'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 1}
    return settings


def text(value: object) -> str:
    return ','.join(map(str, value)) if isinstance(value, list) else str(value)


@pytest.mark.parametrize(('job', 'package'), ALL)
def test_an_inherited_job_trains(job, package, tool, tmp_path, monkeypatch, roots):
    settings = small(job, roots)
    monkeypatch.chdir(tmp_path)
    name = Path(job).stem.partition('_')[0]
    Path(f'{name}.py').write_text(f"_base_ = [__import__('toast_mm') and 'toast_mm::{job}']\n")
    options = [f'{key}={text(value)}' for key, value in settings.items()]
    tool(TRAIN[package], f'{name}.py', '--cfg-options', *options)
    folder = Path('work_dirs', name)
    checkpoint = torch.load(folder / (folder / 'last_checkpoint').read_text(), weights_only=False)
    assert checkpoint['meta']['iter'] == 2
    (log,) = folder.glob('*/vis_data/scalars.json')
    metric = '"mIoU"' if job in SEGMENTATION else '"accuracy/top1'
    assert metric in log.read_text()
