"""Every piece under configs/_base_ parses, and every job belongs to one of the tested kinds."""

import pytest
from job_files import CLASSIFICATION, CONFIGS, JOBS, PIECES, QUICKSTART, SEGMENTATION, name
from mmengine.config import Config


@pytest.mark.parametrize('path', PIECES, ids=name)
def test_pieces_parse(path):
    assert set(Config.fromfile(path)) - {'_base_'}


def test_all_jobs_are_tested():
    assert {*CLASSIFICATION, *SEGMENTATION, *QUICKSTART} == set(JOBS)


def test_all_methods_are_tested():
    tested = {'toast', 'toast_early', 'toast_late', 'toast_lite', 'linear', 'finetune'}
    assert {path.stem for path in (CONFIGS / '_base_/methods').glob('*.py')} == tested


def test_every_job_uses_the_runtime_of_the_project():
    for path in JOBS:
        cfg = Config.fromfile(path)
        assert cfg.custom_imports == dict(imports=['toast_mm'], allow_failed_imports=False), path
        assert cfg.runner_type == 'toast_mm.Runner', path
        hooks = {hook.type.removeprefix('toast_mm.') for hook in cfg.custom_hooks}
        assert hooks >= {'StepSeedHook', 'DataCheckHook', 'SteeringHealthHook'}, path
