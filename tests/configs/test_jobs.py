"""Properties of all configs; each of them belongs to one of the tested kinds."""

import ast
from pathlib import Path

import pytest
import torch
from job_files import (
    CLASSIFICATION,
    JOBS,
    QUICKSTART,
    SEGMENTATION,
    build,
    load,
    name,
)
from mmengine.registry import DefaultScope
from safetensors.torch import load_file

from toast_mm.checkpoint import WEIGHTS
from toast_mm.engine.config_check import check_config
from toast_mm.engine.task_config import config_in


def test_all_jobs_are_tested():
    assert {*CLASSIFICATION, *SEGMENTATION, *QUICKSTART} == set(JOBS)


def test_a_job_is_a_parent_of_four_base_configs_or_a_child():
    for path in JOBS:
        (bases,) = (
            ast.literal_eval(node.value)
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Assign) and node.targets[0].id == '_base_'
        )
        if isinstance(bases, list):
            folders = [Path(base).parent.name for base in bases]
            assert folders == ['models', 'datasets', 'schedules', '_base_'], path
        else:
            assert (path.parent / bases).resolve() in JOBS, path


SHIPPED = [
    path
    for path in JOBS
    if str(load(path).model.backbone.get('pretuned')).startswith('toast_mm://')
]


@pytest.mark.parametrize('path', SHIPPED, ids=name)
def test_pretuned_modules_that_come_with_the_package(path):
    """They fit base and route, and are loaded where the base is there."""
    cfg = load(path)
    backbone = cfg.model.backbone
    file = WEIGHTS / backbone.pretuned.removeprefix('toast_mm://')
    with_base = backbone.init_cfg.checkpoint.startswith('toast_mm://')
    if not with_base:
        backbone.update(init_cfg=None, pretuned=None)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = build(cfg)
    state = model.backbone.topdown.state_dict()
    topdown = {key: tensor for key, tensor in state.items() if '.updates.' not in key}
    stored = {key: t for key, t in load_file(file).items() if key.startswith('topdown.')}
    assert len(stored) == len(topdown)
    for key, tensor in stored.items():
        own = topdown[key.removeprefix('topdown.')]
        assert own.shape == tensor.shape
        if with_base:
            torch.testing.assert_close(own, tensor.float())


def test_weights_that_come_with_the_package_are_small():
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) < 8e6
    assert {path.parent.name for path in SHIPPED} == {'camvid', 'cub25', 'omniglot', 'quickstart'}


def test_every_job_uses_the_runtime_of_the_project():
    for path in JOBS:
        cfg = load(path)
        assert cfg.custom_imports == dict(imports=['toast_mm'], allow_failed_imports=False), path
        assert cfg.runner_type == 'toast_mm.Runner', path
        hooks = {hook.type.removeprefix('toast_mm.') for hook in cfg.custom_hooks}
        assert hooks >= {'StepSeedHook', 'DataCheckHook', 'SteeringHealthHook'}, path


def test_no_setting_of_a_job_is_refused():
    for path in JOBS:
        check_config(load(path))


@pytest.mark.slow
@pytest.mark.parametrize('path', JOBS, ids=lambda path: path.stem)
def test_the_config_in_a_checkpoint_can_be_read(path):
    """A task file alone is enough for predictions: its config names only known parts."""
    cfg = load(path)
    read = config_in(dict(cfg=cfg.pretty_text), path.name)
    assert read.model.type == cfg.model.type
    assert [step.type for step in read.test_dataloader.dataset.pipeline]
