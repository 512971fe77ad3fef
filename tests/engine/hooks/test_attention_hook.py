"""Pictures of the attention after validations, and a training that stays as it was."""

import random

import mmengine.runner
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_images import MEAN, STD, toy_image

from toast_mm.engine import Runner
from toast_mm.engine.hooks import attention_hook
from toast_mm.visualization import as_image, attention_maps, draw_picture

HOOK = dict(type='toast_mm.AttentionHook', indices=[0, 5])


@pytest.fixture
def job(steered_config, tmp_path):
    """Config of 4 iterations, with a validation after each."""

    def make(*hooks, folder='work', backends=('LocalVisBackend',), val=True, noise=0.0, **settings):
        backbone = dict(drop_path_rate=0.3, **settings)
        cfg = steered_config(
            tmp_path / folder,
            backbone=backbone,
            train_cfg__max_iters=4,
            train_cfg__val_interval=1,
            custom_hooks=[*hooks],  # and no StepSeedHook, so that every number drawn has an effect
            visualizer=dict(type='Visualizer', vis_backends=[dict(type=name) for name in backends]),
            default_hooks__checkpoint__interval=100,
        )
        cfg.__dict__['_format_python_code'] = False
        if val:
            cfg.val_dataloader = dict(
                batch_size=3,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=ConfigDict(
                    type='toast_mm.ToyImages',
                    pipeline=[dict(type='toast_mm.PackToyImage', noise=noise)],
                ),
            )
            cfg.val_evaluator, cfg.val_cfg = dict(type='mmpretrain.Accuracy', topk=1), dict()
        return cfg

    return make


def train(cfg, runner_type=mmengine.runner.Runner):
    runner = runner_type.from_cfg(cfg)
    runner.train()
    return runner


def pictures(tmp_path, folder='work'):
    return sorted((tmp_path / folder).glob('*/vis_data/vis_image/*.png'))


@pytest.fixture
def shown(monkeypatch):
    """Rows of every picture."""
    rows = []
    monkeypatch.setattr(
        attention_hook,
        'draw_picture',
        lambda drawn, **options: rows.append(drawn) or draw_picture(drawn, **options),
    )
    return rows


def test_pictures_of_every_second_validation(job, shown, tmp_path):
    runner = train(job(dict(HOOK, interval=2, blocks=[0, -1], heads=True, difference=True)))
    names = [path.name for path in pictures(tmp_path)]
    assert names == ['attention_2.png', 'attention_4.png'] and len(shown) == 2
    with Image.open(pictures(tmp_path)[1]) as picture:
        drawn = np.array(picture.convert('RGB'))
    assert np.array_equal(drawn, as_image(draw_picture(shown[1], difference=True)))

    runner.model.eval()
    for row, number in zip(shown[1], HOOK['indices'], strict=True):
        (view,) = row.views
        rgb = toy_image(number).flip(0)
        assert np.array_equal(view.image, rgb.permute(1, 2, 0).byte())
        assert view.method == 'TOAST' and list(view.maps) == [0, 3]
        for block, maps in attention_maps(runner.model.backbone, normed(rgb), [0, -1]).items():
            assert view.maps[block].first.shape == (1, 2, 2, 2)
            torch.testing.assert_close(view.maps[block].second, maps.second)


def normed(rgb):
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return ((rgb - mean) / std)[None]


class Draws(Hook):
    """The backbone draws random numbers in every forward, in eval mode, too."""

    priority = 'VERY_HIGH'

    def before_train(self, runner) -> None:
        runner.model.backbone.layers[0].register_forward_hook(self.draw)

    def draw(self, *args) -> None:
        _ = random.random(), np.random.rand(), torch.rand(1)


def test_a_model_that_draws_random_numbers(job, tmp_path):
    states = []
    for folder, hooks in (('without', []), ('with', [dict(HOOK, interval=4)])):
        runner = Runner.from_cfg(job(*hooks, folder=folder))
        runner.register_hook(Draws())
        runner.train()
        states.append([random.getstate(), np.random.rand(), torch.rand(1).item()])
    assert states[0] == states[1]


@pytest.mark.parametrize('runner_type', [Runner, mmengine.runner.Runner])
def test_training_stays_the_same_bit_for_bit(job, tmp_path, runner_type):
    weights, states = [], []
    for folder, hooks in (('without', []), ('with', [HOOK])):
        runner = train(job(*hooks, folder=folder, noise=1.0), runner_type)
        weights.append(runner.model.state_dict())
        states.append(torch.get_rng_state())
        assert not pictures(tmp_path, 'without')
    assert len(pictures(tmp_path, 'with')) == 4
    assert torch.equal(*states)
    for name, tensor in weights[0].items():
        assert torch.equal(weights[1][name], tensor), name


def test_tensorboard(job, tmp_path):
    train(job(dict(HOOK, interval=2), backends=('TensorboardVisBackend', 'LocalVisBackend')))
    (folder,) = (tmp_path / 'work').glob('*/vis_data')
    events = EventAccumulator(str(folder), size_guidance=dict(images=0))
    events.Reload()
    images = events.Images('attention')
    assert [image.step for image in images] == [2, 4]
    with Image.open(pictures(tmp_path)[0]) as picture:
        assert (images[0].width, images[0].height) == picture.size


def test_weights_are_those_that_were_validated(job, shown):
    """The average of EMAHook, which takes its weights back after the validation."""
    cfg = job(HOOK, dict(type='EMAHook', momentum=0.4))
    cfg.optim_wrapper.optimizer.lr = 30.0
    runner = train(cfg)
    (average,) = [hook.ema_model for hook in runner.hooks if type(hook).__name__ == 'EMAHook']
    view = shown[-1][0].views[0]
    inputs = normed(toy_image(0).flip(0))
    maps = [attention_maps(m.backbone, inputs)[3].mean() for m in (average.module, runner.model)]
    torch.testing.assert_close(view.maps[3].second, maps[0].second)
    assert (maps[0].second - maps[1].second).abs().max() > 1e-5


def test_a_validation_alone_draws_too(job, tmp_path):
    cfg = job(HOOK, feedback_from=None)
    runner = mmengine.runner.Runner.from_cfg(cfg)
    runner.val()
    assert [path.name for path in pictures(tmp_path)] == ['attention_0.png']


def test_other_processes_neither_load_nor_draw(job, monkeypatch, tmp_path):
    runner = mmengine.runner.Runner.from_cfg(job(HOOK))
    monkeypatch.setattr(type(runner), 'rank', 1)
    runner.train()
    (hook,) = [hook for hook in runner.hooks if type(hook).__name__ == 'AttentionHook']
    assert not hook._samples and not pictures(tmp_path)


class NeverTrains(Hook):
    def before_train_iter(self, *args, **kwargs):
        raise AssertionError('it trained')


@pytest.mark.parametrize(
    ('hook', 'settings', 'sentence'),
    [
        (dict(indices=[7]), {}, r'indices=\[7\]: the validation data have 7 images, 0\.\.6'),
        (dict(blocks=4), {}, r'blocks=4 must name blocks of this TOASTViT: 0\.\.3'),
        ({}, dict(val=False), 'the config has no validation'),
        (dict(interval=0), {}, 'interval=0 must be at least 1'),
        (dict(indices=[]), {}, r'indices=\[\] must name an image'),
    ],
)
def test_errors_before_the_training(job, hook, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        runner = mmengine.runner.Runner.from_cfg(job(HOOK | hook, **settings))
        runner.register_hook(NeverTrains())
        runner.train()
