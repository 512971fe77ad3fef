import copy
import shutil

import mmengine.runner
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.evaluator import BaseMetric

from toast_mm.checkpoint import CheckpointError, load_from_local
from toast_mm.engine import Runner
from toast_mm.registry import METRICS, TRANSFORMS


@METRICS.register_module(force=True)
class Falling(BaseMetric):
    """Best at the first validation."""

    default_prefix = 'falling'

    def process(self, data_batch, data_samples) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict:
        from mmengine.logging import MessageHub

        return dict(acc=-float(MessageHub.get_current_instance().get_info('last_validation')))


@TRANSFORMS.register_module(force=True)
class Doubled(BaseTransform):
    """Another recipe."""

    def transform(self, results: dict) -> dict:
        return {**results, 'inputs': [2 * x for x in results['inputs']]}


def train(cfg) -> Runner:
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def resume_from(folder, start: str, cfg) -> Runner:
    folder.mkdir()
    shutil.copy(start, folder)
    cfg.resume = True
    return train(cfg)


@pytest.mark.parametrize('start', [1, 2])
def test_early_stopping_goes_on_counting(toy_config, tmp_path, start):
    """mmengine's starts from zero; the validation of the saved epoch counts as well."""

    def config(name):
        return toy_config(
            tmp_path / name,
            by_epoch=True,
            train_cfg__max_epochs=6,
            val_evaluator=dict(type='toast_mm.Falling'),
            custom_hooks=[
                dict(type='toast_mm.StepSeedHook'),
                dict(type='EarlyStoppingHook', monitor='falling/acc', patience=2),
            ],
        )

    assert train(config('whole')).epoch == 3
    runner = resume_from(tmp_path / 'b', tmp_path / 'whole' / f'epoch_{start}.pth', config('b'))
    assert runner.epoch == 3


SWITCH = dict(
    type='mmpretrain.SwitchRecipeHook',
    schedule=[
        dict(
            action_epoch=2,
            train_pipeline=[
                dict(type='toast_mm.SeedAugmentation'),
                dict(type='toast_mm.Doubled'),
                dict(type='toast_mm.ToyAugmentation'),
            ],
        )
    ],
)


@pytest.mark.parametrize(
    'hook',
    [
        dict(type='EMAHook', momentum=0.3),
        dict(type='mmpretrain.EMAHook', momentum=0.3),
        dict(type='EMAHook', momentum=0.3, begin_epoch=2),
    ],
    ids=['mmengine', 'mmpretrain', 'late'],
)
@pytest.mark.parametrize('start', [1, 2])
def test_averages_continue(toy_config, tmp_path, hook, start):
    def config(name):
        cfg = toy_config(tmp_path / name, by_epoch=True)
        cfg.custom_hooks.append(dict(hook))
        return cfg

    train(config('whole'))
    resume_from(tmp_path / 'b', tmp_path / 'whole' / f'epoch_{start}.pth', config('b'))
    one, other = (load_from_local(str(tmp_path / n / 'epoch_3.pth')) for n in ('whole', 'b'))
    for part in ('state_dict', 'ema_state_dict'):
        for name, tensor in one[part].items():
            assert torch.equal(tensor, other[part][name])
    average, weight = (one[p] for p in ('state_dict', 'ema_state_dict'))
    assert not torch.equal(average['head.weight'], weight['module.head.weight'])


@pytest.mark.parametrize('start', [1, 2])
def test_recipes_switch_at_their_epoch(toy_config, tmp_path, start):
    def config(name, hooks=(SWITCH,)):
        cfg = toy_config(tmp_path / name, by_epoch=True)
        cfg.custom_hooks.extend(copy.deepcopy(list(hooks)))
        return cfg

    whole = train(config('whole'))
    resumed = resume_from(tmp_path / 'b', tmp_path / 'whole' / f'epoch_{start}.pth', config('b'))
    other = train(config('other', ()))
    assert torch.equal(whole.model.head.weight, resumed.model.head.weight)
    assert not torch.equal(whole.model.head.weight, other.model.head.weight)


@pytest.mark.filterwarnings('ignore:Detected call of `scheduler.step')  # of mmengine
def test_accumulated_gradients_are_restored(toy_config, tmp_path, capsys):
    """Saved at iteration 5, in the middle of three that are accumulated."""
    settings = dict(optim_wrapper__accumulative_counts=3)
    train(toy_config(tmp_path / 'a', **settings))
    start = tmp_path / 'a' / 'iter_5.pth'
    assert load_from_local(str(start))['gradients']['head.weight'].abs().sum() > 0
    assert load_from_local(str(tmp_path / 'a' / 'iter_9.pth'))['gradients'] == {}
    runner = resume_from(tmp_path / 'b', start, toy_config(tmp_path / 'b', **settings))
    expected = load_from_local(str(tmp_path / 'a' / 'iter_9.pth'))['state_dict']
    assert torch.equal(runner.model.head.weight, expected['head.weight'])
    assert 'is lost' not in capsys.readouterr().out


class TestSettings:
    @pytest.fixture(autouse=True)
    def start(self, toy_config, tmp_path, capsys):
        train(toy_config(tmp_path / 'a'))
        self.folder, self.file = tmp_path / 'b', tmp_path / 'a' / 'iter_5.pth'
        self.config = lambda **settings: toy_config(self.folder, **settings)
        capsys.readouterr()

    def test_no_warning_without_changes(self, capsys):
        resume_from(self.folder, self.file, self.config())
        said = capsys.readouterr().out
        assert 'changed since' not in said and 'toast_mm' not in said.replace(str(self.folder), '')

    def test_kept_and_changed_settings(self, capsys):
        cfg = self.config(
            optim_wrapper__optimizer__lr=0.5,
            optim_wrapper__optimizer__weight_decay=0.3,
            param_scheduler__end=5,
        )
        runner = resume_from(self.folder, self.file, cfg)
        said = ' '.join(capsys.readouterr().out.split())
        assert 'optim_wrapper.optimizer.lr=0.1 is kept, the config has 0.5' in said
        assert 'optim_wrapper.optimizer.weight_decay=None is kept, the config has 0.3' in said
        assert 'param_scheduler.end=9 is kept, the config has 5' in said
        assert '--cfg-options resume_settings=config' in said
        assert runner.optim_wrapper.param_groups[0]['initial_lr'] == 0.1

    def test_settings_of_the_config(self, tmp_path, capsys):
        changes = dict(
            optim_wrapper__optimizer__lr=0.5,
            optim_wrapper__optimizer__weight_decay=0.3,
            param_scheduler__end=20,
            train_cfg__max_iters=12,
        )
        runner = resume_from(
            self.folder, self.file, self.config(**changes, resume_settings='config')
        )
        (group,) = runner.optim_wrapper.param_groups
        assert group['weight_decay'] == 0.3
        # LinearLR from a third to the whole in 19 steps, of which 12 are done.
        assert group['lr'] == pytest.approx(0.5 * (1 / 3 + 2 / 3 * 12 / 19))
        assert 'optim_wrapper.optimizer.lr=0.5 (was 0.1)' in ' '.join(
            capsys.readouterr().out.split()
        )

    def test_longer(self, capsys):
        runner = resume_from(self.folder, self.file, self.config(train_cfg__max_iters=12))
        said = ' '.join(capsys.readouterr().out.split())
        assert runner.iter == 12
        assert 'train_cfg.max_iters=12 (was 9)' in said
        assert 'after its end the learning rate is constant' in said

    def test_another_optimizer(self):
        cfg = self.config()
        cfg.optim_wrapper.optimizer = dict(type='SGD', lr=0.1)
        with pytest.raises(CheckpointError, match=r'iter_5\.pth has .*optimizer AdamW, .*fit SGD'):
            resume_from(self.folder, self.file, cfg)

    def test_accumulation(self, capsys):
        cfg = self.config(optim_wrapper__accumulative_counts=2)
        resume_from(self.folder, self.file, cfg)
        said = ' '.join(capsys.readouterr().out.split())
        assert (
            'changed since the checkpoint: optim_wrapper.accumulative_counts=2 (was None)' in said
        )


class TestUnderMmengine:
    """Named in ``custom_hooks`` the hook does all of this under mmengine's Runner as well."""

    @pytest.fixture
    def config(self, toy_config, tmp_path):
        def make(name, **changes):
            cfg = toy_config(tmp_path / name, **changes)
            cfg.custom_hooks.append(dict(type='toast_mm.ResumeHook'))
            return cfg

        return make

    def train(self, cfg):
        runner = mmengine.runner.Runner.from_cfg(cfg)
        runner.train()
        return runner

    @pytest.mark.parametrize('seed', [3, None])
    @pytest.mark.parametrize('num_workers', [0, 1])
    def test_goes_on_as_uninterrupted(self, config, tmp_path, seed, num_workers):
        """Without a seed in the config, samplers use that of the checkpoint."""
        settings = dict(randomness__seed=seed, num_workers=num_workers)
        whole = self.train(config('whole', **settings))
        (tmp_path / 'b').mkdir()
        shutil.copy(tmp_path / 'whole' / 'iter_5.pth', tmp_path / 'b')
        resumed = self.train(config('b', resume=True, **settings))
        assert resumed.model.seen == whole.model.seen[10:]
        for name, tensor in whole.model.state_dict().items():
            assert torch.equal(resumed.model.state_dict()[name], tensor)
        for runner in (whole, resumed):
            if num_workers:  # left to the garbage collector, it would wait 5 seconds
                for loader in (runner.train_dataloader, runner.val_dataloader):
                    loader._iterator._shutdown_workers()

    def test_nothing_to_resume(self, config, tmp_path, capsys):
        assert self.train(config('a', resume=True)).model.seen == list(range(18))
        said = ' '.join(capsys.readouterr().out.split())
        assert f'no checkpoint to resume in {tmp_path / "a"}: starting anew' in said

    def test_weights_alone(self, config, toy_weights, tmp_path):
        file = tmp_path / 'weights.pth'
        torch.save(toy_weights, file)
        with pytest.raises(CheckpointError, match=rf'^{file} holds weights without the state of a'):
            self.train(config('a', resume=True, load_from=str(file)))

    def test_another_optimizer(self, config, tmp_path):
        self.train(config('a'))
        file = tmp_path / 'a' / 'iter_5.pth'
        cfg = config('b', resume=True, load_from=str(file))
        cfg.optim_wrapper.optimizer = dict(type='SGD', lr=0.1)
        with pytest.raises(CheckpointError, match=rf'^{file} has .* optimizer AdamW, .*SGD'):
            self.train(cfg)

    def test_other_tuned_parameters(self, config, tmp_path):
        self.train(config('a'))
        file = tmp_path / 'a' / 'iter_5.pth'
        checkpoint = load_from_local(str(file))
        checkpoint['optimizer']['param_groups'][0]['params'].pop()
        torch.save(checkpoint, file)
        with pytest.raises(CheckpointError, match=rf'^{file} is of a training that tuned other'):
            self.train(config('b', resume=True, load_from=str(file)))
