"""Tuning on a folder in one call."""

from pathlib import Path

import numpy as np
import pytest
import torch
from own_images import fill_folder, write_pairs
from PIL import Image

from toast_mm.apis import Predictor, fit
from toast_mm.checkpoint.io import read_torch
from toast_mm.engine.config import ConfigError, read_config
from toast_mm.engine.hooks import StepSeedHook
from toast_mm.files import WriteError

RED, BLUE = (200, 30, 30), (30, 30, 200)


@pytest.fixture(scope='module')
def photos(tmp_path_factory) -> Path:
    """Two classes; images differ in size, and one each is grey, has alpha, or a palette."""
    root = tmp_path_factory.mktemp('data') / 'my photos'
    fill_folder(root / 'röd ros', 5, RED)
    fill_folder(root / 'sky', 5, BLUE, size=(33, 47))
    for name, mode in (('grey', 'L'), ('alpha', 'RGBA'), ('palette', 'P')):
        Image.new('RGB', (50, 21), BLUE).convert(mode).save(root / 'sky' / f'{name}.png')
    return root


SHORT = dict(method='linear', image_size=16, epochs=3, batch_size=6)


@pytest.fixture(scope='module')
def fitted(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs') / 'short'
    return fit('vit-1m', photos, work_dir=folder, **SHORT), folder


def weights(folder):
    return read_torch(str(folder / 'epoch_3.pth'))['state_dict']


def test_it_returns_a_predictor_of_a_task_file(fitted, photos):
    predictor, folder = fitted
    assert isinstance(predictor, Predictor)
    result = predictor.predict(str(photos / 'sky' / 'alpha.png'))[0]
    assert result.label in ('röd ros', 'sky')
    cfg = read_config(str(folder / 'short.py'))
    assert cfg.task_files is True
    assert cfg.train_dataloader.dataset.metainfo.classes == ['röd ros', 'sky']
    names = weights(folder)
    assert not any('attn.qkv' in name for name in names)  # which the base holds
    assert any(name.startswith('head.') for name in names)


def test_a_second_run_replaces_nothing(fitted, photos):
    _, folder = fitted
    before = (folder / 'epoch_3.pth').read_bytes()
    with pytest.raises(WriteError, match='holds a training already: choose another work_dir'):
        fit('vit-1m', photos, work_dir=folder, **SHORT)
    with pytest.raises(ConfigError, match='was made from other data or with other settings'):
        fit('vit-1m', photos, work_dir=folder, resume=True, **{**SHORT, 'epochs': 4})
    assert (folder / 'epoch_3.pth').read_bytes() == before


def test_an_interrupted_run_is_resumed_exactly(fitted, photos, tmp_path, monkeypatch, capsys):
    _, uninterrupted = fitted
    original = StepSeedHook.before_train_iter

    def interrupt(hook, runner, *args, **kwargs):
        if runner.iter == 3:  # in the second epoch
            raise KeyboardInterrupt
        original(hook, runner, *args, **kwargs)

    folder = tmp_path / 'short'
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(StepSeedHook, 'before_train_iter', interrupt)
        fit('vit-1m', photos, work_dir=folder, **SHORT)
    assert 'resume=True continues from the newest checkpoint in' in capsys.readouterr().out
    assert [path.name for path in folder.glob('*.pth')] == ['epoch_1.pth']
    fit('vit-1m', photos, work_dir=folder, resume=True, **SHORT)
    out = capsys.readouterr().out
    assert f'Task file: {folder / "epoch_3.pth"}' in out
    assert 'accuracy' in out and 'validation images' in out
    one, other = weights(folder), weights(uninterrupted)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ((None, 'flowers'), 'backbone=None must be str'),
        (('vit-1m', None), r'data=None must be str \| Path'),
        (('vit-1m', 'flowers', None), 'method=None must be str'),
        (('vit-1m', 'flowers', 'lora', 5), r'work_dir=5 must be str \| Path \| None'),
    ],
)
def test_arguments_of_another_type(arguments, sentence):
    with pytest.raises(TypeError, match=f'^fit: {sentence}$'):
        fit(*arguments)


def test_an_unknown_setting_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r'fit has no setting epoch; .* near names: epochs'):
        fit('vit-1m', tmp_path, epoch=3)


@pytest.mark.slow
def test_a_test_set_of_the_user_gives_the_result(tmp_path, capsys):
    for split, number in (('train', 6), ('val', 2), ('test', 3)):
        fill_folder(tmp_path / 'data' / split / 'a', number, RED)
        fill_folder(tmp_path / 'data' / split / 'b', number, BLUE)
    fit('vit-1m', tmp_path / 'data', work_dir=tmp_path / 'run', **SHORT)
    assert 'on 6 test images' in capsys.readouterr().out


@pytest.mark.slow
def test_segmentation(tmp_path, capsys):
    write_pairs(tmp_path / 'data', [1, 2] * 4)
    (tmp_path / 'data' / 'classes.txt').write_text('ground\npoppy\nrye\n')
    settings = dict(image_size=32, max_iters=6, batch_size=4)
    predictor = fit('vit-1m', tmp_path / 'data', 'toast', tmp_path / 'run', **settings)
    result = predictor.predict(str(tmp_path / 'data' / 'images' / '0.jpg'))[0]
    assert result.labels.shape == (16, 20)
    assert list(result.classes) == ['ground', 'poppy', 'rye']
    assert 'mIoU' in capsys.readouterr().out
    assert (tmp_path / 'run' / 'iter_6.pth').is_file()


@pytest.mark.slow
def test_the_defaults_learn_three_shapes(tmp_path):
    """3 x 20 images, as a user would begin with; chance is one in three."""
    rng = np.random.default_rng(0)
    ys, xs = np.mgrid[:64, :64]
    for number in range(60):
        pixels = rng.integers(0, 90, (64, 64, 3))
        y, x = rng.integers(24, 40, 2)
        shape = [
            (ys - y) ** 2 + (xs - x) ** 2 < 256,
            np.maximum(abs(ys - y), abs(xs - x)) < 14,
            abs(ys - y) < 4,
        ][number % 3]
        pixels[shape] = rng.integers(120, 255, 3)
        folder = tmp_path / 'data' / ('disc', 'square', 'bar')[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f'{number}.png')
    predictor = fit('vit-1m', tmp_path / 'data', work_dir=tmp_path / 'run', seed=0)
    held_out = (tmp_path / 'run' / 'run_lists' / 'val.txt').read_text().splitlines()
    paths = [line.rpartition(' ')[0] for line in held_out]
    results = predictor.predict([str(tmp_path / 'data' / path) for path in paths])
    right = [r.label == p.partition('/')[0] for r, p in zip(results, paths, strict=True)]
    assert np.mean(right) > 0.6
