"""Every config of the package by its name, as users' configs and mmengine.hub load it."""

from contextlib import ExitStack
from pathlib import Path

import mmengine.hub.hub
import mmengine.registry
import mmpretrain.models
import mmseg.datasets
import mmseg.models
import pytest
import torch
from extras import is_installed
from mmengine.config import Config
from mmengine.hub import get_config, get_model
from mmengine.registry import METRICS, MODELS, TRANSFORMS, DefaultScope, Registry
from mmengine.runner import Runner
from mmpretrain.registry import BATCH_AUGMENTS

import toast_mm
from toast_mm.command_line import argument_parser, load_config
from toast_mm.engine.config import ConfigError
from toast_mm.registry import SCOPE, TransparentRegistry, type_name

CONFIGS = Path(__file__).parents[2] / 'configs'
FILES = sorted(CONFIGS.rglob('*.py'))
JOBS = [path for path in FILES if '_base_' not in path.parts]
# One config of each form; the others differ in data, size or method.
SAMPLE = [
    'ade20k_toast_upernet.py',
    'voc12aug/inca-vit-b16_8xb2-20k_voc12aug-512x512.py',
    'voc12aug/linear-vit-b14-dinov2_8xb2-40k_voc12aug-518x518.py',
    'camvid/toast-vit-1m_upernet_1xb8-600_camvid-96x96.py',
    'quickstart/toast-vit-1m_upernet_1xb16-350_digits-scenes-64x64.py',
    'cub25/toast-lite_vit-1m_1xb32-20e_cub25-64x64.py',
    'fgvc/inca_vit-b16-in1k_1xb32-100e_fgvc-224x224.py',
    'pretrain/vit-1m_1xb128-75e_tinyin100-64x64.py',
    'pretrain/vit-b16_8xb64-300e_in1k.py',
    'pretune/toast-last_vit-b16-in21k_8xb64-30e_in1k.py',
]
ROOTS = [root for root in vars(mmengine.registry).values() if isinstance(root, Registry)]
ROOTS_OF_JOBS = [*ROOTS, BATCH_AUGMENTS]


def relative(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def name(path: str) -> str:
    """Name of a config; mmengine needs a folder in it."""
    return f'toast_mm::{path if "/" in path else f"_base_/../{path}"}'


def inherit(path: str, folder: Path, more: str = '') -> Config:
    child = folder / 'mine.py'
    child.write_text(f"_base_ = [__import__('toast_mm') and {name(path)!r}]\n{more}")
    return Config.fromfile(child)


def without_scope(value):
    """A config without the keys that mmengine adds."""
    if isinstance(value, dict):
        return {k: without_scope(v) for k, v in value.items() if (k, v) != ('_scope_', SCOPE)}
    if isinstance(value, (list, tuple)):
        return type(value)(map(without_scope, value))
    return value


def typed(value, scopes: tuple[str, ...] = ()):
    """Every type in a config with the scopes around it, the outermost first."""
    if isinstance(value, dict):
        scopes += (value['_scope_'],) if '_scope_' in value else ()
        if 'type' in value:
            yield value['type'], scopes
        for item in value.values():
            yield from typed(item, scopes)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from typed(item, scopes)


def found(kind: str, *scopes: str) -> dict[str, type]:
    """Classes that a type names in scopes, in all registries."""
    classes = {}
    with ExitStack() as stack:
        for scope in scopes:
            stack.enter_context(DefaultScope.overwrite_default_scope(scope))
        for root in ROOTS_OF_JOBS:
            with root.switch_scope_and_registry(None) as registry:
                cls = registry.get(kind)
            if cls is not None:
                classes[root.name] = cls
    return classes


SEEN: set = set()  # types of several configs are looked up once


def check(path: str, folder: Path, seen: set) -> None:
    """The config by name is the file itself, with every type the same class."""
    cfg, file = inherit(path, folder).to_dict(), Config.fromfile(CONFIGS / path).to_dict()
    assert without_scope(cfg) == without_scope(file)
    scope = file.get('default_scope')
    for (kind, inherited), (same, written) in zip(typed(cfg), typed(file), strict=True):
        assert kind == same
        if scope and (kind, scope, inherited, written) not in seen:
            seen.add((kind, scope, inherited, written))
            expected = found(kind, scope, *written)
            assert found(kind, scope, *inherited) == expected, (path, kind)
            assert expected, f'{path}: nothing is called {kind} in scope {scope}'


@pytest.mark.parametrize('path', SAMPLE)
def test_a_job_by_name_is_the_job(path, tmp_path):
    check(path, tmp_path, SEEN)


def build(cfg: Config) -> torch.nn.Module:
    """Build a model without memory, or narrow for a ConvNeXt, which mmpretrain cannot build so."""
    convnext = 'ConvNeXt' in cfg.model.backbone.type
    if convnext:
        cfg.model.backbone.arch = dict(depths=[1] * 4, channels=[8, 8, 8, 16])
    with torch.device('cpu' if convnext else 'meta'):
        return MODELS.build(cfg.model)


@pytest.mark.slow
def test_every_file_by_name_is_the_file(tmp_path):
    seen: set = set()
    for path in FILES:
        check(relative(path), tmp_path, seen)


@pytest.mark.slow
def test_every_job_by_name_builds(tmp_path):
    missing = () if is_installed('peft') else ('dora_',)  # an extra
    for path in [job for job in JOBS if not job.name.startswith(missing)]:
        cfg = inherit(relative(path), tmp_path)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            assert build(cfg).backbone is not None, path


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('_base_/datasets/*.py')), ids=lambda p: p.stem)
def test_pipelines_are_the_same_in_every_scope(path):
    """mmpretrain's inferencer builds a pipeline in the scope that mmseg's left, and the reverse."""
    data = Config.fromfile(path)
    for key in ('train_pipeline', 'test_pipeline', 'tta_pipeline'):
        for step in data.get(key, ()):
            kinds = set()
            for scope in ('mmseg', 'mmpretrain', SCOPE):
                with DefaultScope.overwrite_default_scope(scope):
                    kinds.add(type(TRANSFORMS.build(step)))
            assert len(kinds) == 1, step


# A class that mmseg and mmpretrain both have, as a default that no config names.
LOSSES = {
    'mmseg': mmseg.models.losses.CrossEntropyLoss,
    'mmpretrain': mmpretrain.models.losses.CrossEntropyLoss,
}


@pytest.mark.parametrize('scope', LOSSES)
def test_a_name_without_a_prefix_is_of_the_scope_around(scope):
    with DefaultScope.overwrite_default_scope(scope):
        mine = TRANSFORMS.get('toast_mm.LoadImageFromFile')
        flip = TRANSFORMS.get(f'{scope}.RandomFlip')
        with DefaultScope.overwrite_default_scope(SCOPE):
            assert type(MODELS.build(dict(type='CrossEntropyLoss'))) is LOSSES[scope]
            with TRANSFORMS.switch_scope_and_registry(None) as registry:
                assert registry.get('RandomFlip') is flip
                assert registry.get(f'{scope}.LoadImageFromFile') is not mine
                assert registry.get('LoadImageFromFile') is mine  # ours come first
                assert registry.get('NoSuchTransform') is None
            other = next(name for name in LOSSES if name != scope)
            with DefaultScope.overwrite_default_scope(other):
                assert type(MODELS.build(dict(type='CrossEntropyLoss'))) is LOSSES[other]


def test_with_no_scope_around_names_are_ours_or_mmengines(monkeypatch):
    monkeypatch.setattr(DefaultScope, '_instance_dict', type(DefaultScope._instance_dict)())
    with DefaultScope.overwrite_default_scope(SCOPE):
        assert type(MODELS.build(dict(type='LoRA'))) is toast_mm.models.LoRA
        with pytest.raises(KeyError, match='EncoderDecoder is not in the toast_mm::model registry'):
            MODELS.build(dict(type='EncoderDecoder'))


@pytest.mark.parametrize('root', ROOTS, ids=lambda root: root.name)
def test_every_registry_of_mmengine_has_a_child_of_ours(root):
    """Without one, mmengine would warn and only search its own."""
    assert type(root.children[SCOPE]) is TransparentRegistry


def test_what_a_user_writes_into_a_job_needs_no_prefix(tmp_path):
    """It is merged into dicts with the scope toast_mm, and built as in an own config."""
    cfg = inherit(
        'ade20k_toast_upernet.py',
        tmp_path,
        """
train_pipeline = [*_base_.train_pipeline[:3],
                  dict(type='BioMedicalGaussianNoise'), dict(type='ResizeToMultiple')]
val_evaluator = dict(type='CityscapesMetric', output_dir='out')
model = dict(decode_head=dict(loss_decode=dict(_delete_=True, type='DiceLoss')))
""",
    )
    assert cfg.val_evaluator._scope_ == SCOPE
    with DefaultScope.overwrite_default_scope('mmseg'):
        with pytest.raises(ImportError, match='cityscapesscripts'):  # of the right class
            METRICS.build(cfg.val_evaluator)
        steps = [type(TRANSFORMS.build(step)) for step in cfg.train_pipeline]
        model = build(cfg)
    assert steps[0] is toast_mm.datasets.SeedAugmentation
    assert steps[-2:] == [mmseg.datasets.BioMedicalGaussianNoise, mmseg.datasets.ResizeToMultiple]
    assert type(model.decode_head.loss_decode) is mmseg.models.losses.DiceLoss


@pytest.mark.parametrize(
    ('job', 'mean'),
    [
        ('ade20k_toast_upernet.py', 127.5),
        ('camvid/toast-vit-1m_upernet_1xb8-600_camvid-96x96.py', 123.675),
        ('fgvc/lora_vit-b16-in1k_1xb32-100e_fgvc-224x224.py', 123.675),
        # mmpretrain's ImageNet brings a preprocessor, which the hub prefers to the model's own.
        ('pretune/toast-last_vit-b16-in21k_8xb64-30e_in1k.py', 127.5),
    ],
)
def test_the_hub_builds_a_job(job, mean, monkeypatch):
    """Without the scope of the config, and with the right one of two losses with this name."""
    monkeypatch.setattr(DefaultScope, '_instance_dict', type(DefaultScope._instance_dict)())
    cfg = get_config(name(job))
    file = Config.fromfile(CONFIGS / job)
    assert cfg.to_dict() == file.to_dict()
    monkeypatch.setattr(mmengine.hub.hub, 'get_config', lambda *_: small(cfg))
    model = get_model(name(job))
    assert model.data_preprocessor.mean.flatten()[0].item() == pytest.approx(mean)
    family = 'mmseg' if file.default_scope == 'mmseg' else 'mmpretrain'
    assert type(model).__module__.startswith((family, 'toast_mm.models.classifiers'))
    head = model.decode_head.loss_decode if family == 'mmseg' else model.head.loss_module
    assert type(head).__module__.startswith(f'{family}.models.losses')


def small(cfg: Config) -> Config:
    """With a narrow backbone."""
    cfg.model.backbone.update(
        arch=dict(embed_dims=16, num_layers=12, num_heads=2, feedforward_channels=16),
        init_cfg=None,
        pretuned=None,
    )
    return cfg


def test_a_preprocessor_beside_the_model_is_the_models():
    """mmengine.hub uses the one outside the model, mmpretrain the one inside."""
    beside = [cfg for cfg in map(Config.fromfile, JOBS) if 'data_preprocessor' in cfg]
    assert len(beside) == 6  # the jobs on ImageNet, whose data set brings one
    for cfg in beside:
        assert cfg.data_preprocessor == cfg.model.data_preprocessor, cfg.filename


def test_a_batch_is_made_under_mmengines_own_runner(tmp_path, folders):
    """mmengine passes `_scope_` of a collate_fn to the function."""
    cfg = inherit('quickstart/toast-vit-1m_1xb32-400_digits-cued-64x64.py', tmp_path)
    loader = cfg.train_dataloader
    assert loader.collate_fn._scope_ == SCOPE
    loader.update(batch_size=4, num_workers=0, persistent_workers=False)
    loader.dataset.data_root = f'{folders}/train'
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        batch = next(iter(Runner.build_dataloader(loader, seed=0)))
    assert batch['inputs'].shape == (4, 3, 64, 64)


def test_a_name_without_a_folder_is_explained(tmp_path):
    (tmp_path / 'mine.py').write_text(
        "_base_ = [__import__('toast_mm') and 'toast_mm::ade20k_toast_upernet.py']\n"
    )
    args = argument_parser('').parse_args([str(tmp_path / 'mine.py')])
    with pytest.raises(ConfigError, match=r"write 'toast_mm::_base_/\.\./NAME\.py'"):
        load_config(args)


@pytest.mark.parametrize(
    ('kind', 'expected'),
    [
        ('OptimWrapper', 'OptimWrapper'),
        ('toast_mm.StepSeedHook', 'StepSeedHook'),
        ('mmengine.optim.OptimWrapper', 'OptimWrapper'),
        (toast_mm.engine.StepSeedHook, 'StepSeedHook'),
    ],
)
def test_the_name_of_a_type(kind, expected):
    assert type_name(dict(type=kind)) == expected
    assert type_name(dict(interval=1)) == ''
