"""Task files by name: each predicts as alone, and the base is shared."""

import copy

import numpy as np
import pytest
import torch
from task_jobs import make_job

from toast_mm.apis import load

FAMILY = 'cub25/toast-{}_vit-1m_1xb32-20e_cub25-64x64.py'


@pytest.fixture(scope='module')
def cars(tmp_path_factory):
    """A classifier by another route on the same base."""
    folder = tmp_path_factory.mktemp('cars')
    return make_job(folder, 'cars', FAMILY.format('late'), ['van', 'bus'], seed=1)


@pytest.fixture
def tasks(birds, cars):
    return load({'birds': birds.task_file, 'cars': (cars.path, cars.task_file)}, device='cpu')


def test_each_predicts_as_alone(tasks, birds, cars, photos):
    found = tasks.predict(photos, progress=False)
    assert list(found) == list(tasks) == ['birds', 'cars']
    for name, job in (('birds', birds), ('cars', cars)):
        alone = load(job.task_file, device='cpu').predict(photos, progress=False)
        assert [result.path for result in found[name]] == photos
        for result, expected in zip(found[name], alone, strict=True):
            np.testing.assert_allclose(result.scores, expected.scores, atol=1e-6)
            np.testing.assert_array_equal(result.image, expected.image)
    (one,) = tasks['cars'].predict(photos[1])
    np.testing.assert_allclose(one.scores, found['cars'][1].scores, atol=1e-6)


def test_the_first_pass_runs_once(tasks, photos):
    calls = []
    models = [tasks[name].model for name in tasks]
    for model in models:
        for layer in model.backbone.layers:
            layer.register_forward_hook(lambda *_: calls.append(1))
    tasks.predict(photos[0])
    together = len(calls)
    for name in tasks:
        tasks[name].predict(photos[0])
    assert len(calls) - together > together
    assert models[0].backbone.pos_embed.shape == models[1].backbone.pos_embed.shape
    name = 'layers.0.attn.qkv.weight'
    first, second = (model.backbone.get_parameter(name) for model in models)
    assert first is second


def test_names(tasks, photos):
    assert list(tasks.predict(photos[0], ['cars'])) == ['cars']
    for ask in (lambda: tasks['dogs'], lambda: tasks.predict(photos[0], ['dogs'])):
        with pytest.raises(KeyError, match=r"there is no task 'dogs'; there are: 'birds', 'cars'"):
            ask()
    assert "'cars': Predictor(" in repr(tasks)


def test_another_task_later(tasks, birds):
    tasks.add('others', load(birds.task_file, device='cpu'))
    assert len(tasks) == 3
    with pytest.raises(ValueError, match="there is a task 'others' already"):
        tasks.add('others', load(birds.task_file, device='cpu'))
    foreign = load(birds.task_file, device='cpu')
    foreign.model.backbone.get_parameter('layers.0.ln1.bias').data += 1
    with pytest.raises(ValueError, match="'foreign' was tuned on another backbone"):
        tasks.add('foreign', foreign)
    assert 'foreign' not in tasks


@pytest.mark.slow
def test_other_preparations(birds, streets, photos):
    """A segmentor that prepares images in its own way."""
    both = load({'birds': birds.task_file, 'streets': streets.task_file}, device='cpu')
    found = both.predict(photos[1:], progress=False)
    alone = load(streets.task_file, device='cpu').predict(photos[1:], progress=False)
    for result, expected in zip(found['streets'], alone, strict=True):
        np.testing.assert_array_equal(result.labels, expected.labels)
    alone = load(birds.task_file, device='cpu').predict(photos[1:], progress=False)
    for result, expected in zip(found['birds'], alone, strict=True):
        np.testing.assert_allclose(result.scores, expected.scores, atol=1e-6)


def test_one_preparation_for_a_classifier_and_a_segmentor(birds, streets, photos, monkeypatch):
    cfg = copy.deepcopy(birds.cfg)
    scene = copy.deepcopy(streets.cfg)
    steps = [dict(type='toast_mm.LoadImageFromFile'), dict(type='mmseg.Resize', scale=(64, 64))]
    cfg.test_dataloader.dataset.pipeline = [*steps, dict(type='mmpretrain.PackInputs')]
    scene.test_dataloader.dataset.pipeline = [*steps, dict(type='mmseg.PackSegInputs')]
    both = load(
        {'birds': (cfg, birds.task_file), 'streets': (scene, streets.task_file)}, device='cpu'
    )
    read = []
    loader = type(both['birds'].preparation.loader)
    monkeypatch.setattr(
        loader, 'decode', lambda *a, decode=loader.decode: read.append(a[2]) or decode(*a)
    )
    found = both.predict(photos[0])
    assert read == photos[:1]
    assert found['streets'][0].labels.shape == (60, 80)
    (alone,) = both['streets'].predict(photos[0])
    np.testing.assert_array_equal(found['streets'][0].labels, alone.labels)
    assert torch.isfinite(torch.from_numpy(found['birds'][0].scores)).all()
