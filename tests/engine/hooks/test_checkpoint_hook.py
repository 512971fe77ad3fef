"""A training that is stopped while it writes any file can be resumed exactly."""

import builtins
import os
import re
from pathlib import Path

import mmengine.runner
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric

from toast_mm.checkpoint import load_from_local
from toast_mm.engine import Runner
from toast_mm.engine.resumption import latest_checkpoint
from toast_mm.registry import METRICS


class Killed(BaseException):
    """Raised to stop a process: it must not touch a file after that."""


class FileEvents:
    """Counts changes of files below a folder, and kills the process at one of them."""

    def __init__(self, monkeypatch, folder, kill_at: int | None = None) -> None:
        self.folder, self.kill_at, self.count = str(folder), kill_at, 0
        for owner, name in ((os, 'replace'), (os, 'remove'), (os, 'fsync'), (builtins, 'open')):
            self.patch(monkeypatch, owner, name, getattr(owner, name))

    def patch(self, monkeypatch, owner, name, original) -> None:
        def event(*args, **kwargs):
            writes = name != 'open' or set(str(kwargs.get('mode', (*args, 'r')[1]))) & {*'wax+'}
            concerned = name == 'fsync' or str(args[0]).endswith(('.pth', 'last_checkpoint'))
            if writes and concerned:
                self.count += 1
                if self.kill_at is not None and self.count > self.kill_at:
                    if name == 'open' and self.count == self.kill_at + 1:
                        with original(*args, **kwargs) as file:  # killed in the middle of a file
                            file.write(b'PK' if 'b' in file.mode else '/')
                    raise Killed
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, event)


@METRICS.register_module(force=True)
class Zigzag(BaseMetric):
    """Two metrics with different best times: one rises, one goes up and down."""

    default_prefix = 'zigzag'
    values = (1.0, 3.0, 2.0, 4.0, 0.0, 5.0)

    def process(self, data_batch, data_samples) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict:
        number = mmengine.logging.MessageHub.get_current_instance().get_info('last_validation') - 1
        return dict(up=float(number), top=self.values[number])


SETTINGS = {
    'newest': dict(max_keep_ckpts=1),
    'two': dict(max_keep_ckpts=2),
    'best': dict(max_keep_ckpts=1, save_best='zigzag/top', rule='greater'),
    'least': dict(max_keep_ckpts=1, save_best='zigzag/top', rule='less', interval=2),
    'several': dict(max_keep_ckpts=1, save_best=['zigzag/top', 'zigzag/up'], rule='greater'),
    'elsewhere': dict(max_keep_ckpts=1, save_best='auto', rule='greater', out_dir=True),
    'published': dict(
        max_keep_ckpts=1,
        save_best='zigzag/top',
        rule='greater',
        published_keys=['meta', 'state_dict'],
    ),
}
ITERS = 4


@pytest.fixture
def config(toy_config, tmp_path):
    def make(name, hook=None, **changes):
        hook = dict(interval=1) | (hook or {})
        if hook.get('out_dir'):
            hook['out_dir'] = str(tmp_path / f'out_{name}')
        cfg = toy_config(
            tmp_path / name,
            train_cfg=dict(by_epoch=False, max_iters=ITERS, val_interval=1),
            val_evaluator=dict(type='toast_mm.Zigzag'),
            val_dataloader__dataset__size=1,
            train_dataloader__batch_size=1,
            **changes,
        )
        cfg.default_hooks.checkpoint.update(hook)
        return cfg

    return make


def train(cfg, runner=Runner):
    runner = runner.from_cfg(cfg)
    runner.train()
    return runner


def checkpoints(folder: Path) -> dict[str, dict]:
    """Checkpoints by name, without what differs in time and place."""
    found = {}
    for path in folder.glob('*.pth'):
        checkpoint = load_from_local(str(path))
        checkpoint['meta'] = {k: checkpoint['meta'][k] for k in ('epoch', 'iter', 'seed')}
        info = checkpoint.pop('message_hub', {}).get('runtime_info', {})
        checkpoint['best'] = {
            key: Path(value).name if isinstance(value, str) else value
            for key, value in info.items()
            if key.startswith(('best', 'keep', 'last'))
        }
        found[re.sub('-[0-9a-f]{8}.pth', '-HASH.pth', path.name)] = checkpoint
    return found


def assert_same(one, other) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        for each in zip(one, other, strict=True):
            assert_same(*each)
    else:
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.fixture(autouse=True)
def many_runs(monkeypatch):
    """Speed up many runs: no search for compilers, no formatting of the config."""
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    monkeypatch.setattr('mmengine.runner.runner.get_git_hash', lambda *args: '')
    monkeypatch.setattr(Config, 'pretty_text', '')


@pytest.mark.parametrize('setting', ['newest', 'several', 'published'])
def test_killed_at_a_file_event(config, tmp_path, monkeypatch, setting):
    """There is always a checkpoint to resume, and the result is that of an uninterrupted run."""
    kill(config, tmp_path, monkeypatch, setting, step=13)


@pytest.mark.slow
@pytest.mark.parametrize('setting', SETTINGS)
def test_killed_at_many_file_events(config, tmp_path, monkeypatch, setting):
    """At every one, where there are few."""
    few = setting in ('newest', 'two', 'least')
    # A file has four events: five meets each of them.
    kill(config, tmp_path, monkeypatch, setting, step=1 if few else 5)


def kill(config, tmp_path, monkeypatch, setting: str, step: int) -> None:
    hook = SETTINGS[setting]
    with monkeypatch.context() as patch:
        events = FileEvents(patch, tmp_path)
        train(config('whole', hook))
    folder = tmp_path / ('out_whole/whole' if hook.get('out_dir') else 'whole')
    expected = checkpoints(folder)
    assert 'iter_4.pth' in expected and events.count > 15
    for number in range(2, events.count, step):
        name = f'killed_{number}'
        with monkeypatch.context() as patch, pytest.raises(Killed):
            FileEvents(patch, tmp_path, kill_at=number)
            patch.setattr('toast_mm.files._PROCESS', '0' * 8)
            train(config(name, hook))
        resumed = latest_checkpoint(str(tmp_path / name))
        if number > 10:  # the first checkpoint is there
            assert {'optimizer', 'message_hub'} <= load_from_local(resumed).keys()
        train(config(name, hook, resume=True))
        folder = tmp_path / (f'out_{name}/{name}' if hook.get('out_dir') else name)
        assert_same(checkpoints(folder), expected)


def test_the_checkpoint_that_a_training_starts_from_is_not_replaced(config, tmp_path):
    train(config('first'))
    start = tmp_path / 'first' / 'iter_2.pth'
    before = start.read_bytes()
    with pytest.raises(ValueError, match=r'iter_2\.pth is in the folder of this training'):
        train(config('first', load_from=str(start)))
    base = dict(model__init_cfg=dict(type='Pretrained', checkpoint=str(start)))
    with pytest.raises(ValueError, match=rf'model\.init_cfg\.checkpoint={start} is in the folder'):
        train(config('first', **base))
    assert start.read_bytes() == before
    train(config('other', load_from=str(start)))
    train(config('others', **base))


@pytest.mark.parametrize('left', ['iter_8.pth', 'best_zigzag_up_iter_3.pth', 'interrupted.pth'])
def test_checkpoints_of_another_training_are_told(config, tmp_path, left):
    """They would be taken for those of this one."""
    folder = tmp_path / 'again'
    folder.mkdir()
    (folder / left).touch()
    (folder / 'mine.pth').touch()
    train(config('again'))
    (log,) = folder.glob('*/*.log')
    assert f'again holds 1 checkpoints of another training, such as {left}.' in log.read_text()
    train(config('again', resume=True))
    train(config('new'))
    logs = [path.read_text() for path in tmp_path.glob('*/*/*.log')]
    assert sum('of another training' in text for text in logs) == 1


def test_best_checkpoint_of_another_folder_stays(config, tmp_path):
    """mmengine would remove it as soon as the resumed training has a better one."""
    hook = dict(save_best='zigzag/up', rule='greater', max_keep_ckpts=1)
    train(config('first', hook))
    former = tmp_path / 'first'
    names = {path.name for path in former.glob('*.pth')}
    start = str(former / 'iter_4.pth')
    cfg = config('second', hook, resume=True, load_from=start)
    cfg.train_cfg.max_iters = 5
    train(cfg)
    assert {path.name for path in former.glob('*.pth')} == names
    assert {p.name for p in (tmp_path / 'second').glob('*.pth')} == {
        'iter_5.pth',
        'best_zigzag_up_iter_5.pth',
    }


def test_under_mmengines_runner(config, tmp_path, monkeypatch):
    """It works under its name, and no checkpoint is ever incomplete."""
    hook = dict(type='toast_mm.CheckpointHook', max_keep_ckpts=1)
    without = dict(val_cfg=None, val_dataloader=None, val_evaluator=None)

    def config_of(name):
        cfg = config(name, hook)
        cfg.update(without)
        return cfg

    with monkeypatch.context() as patch:
        events = FileEvents(patch, tmp_path)
        train(config_of('whole'), mmengine.runner.Runner)
    for number in range(9, events.count, 9):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            FileEvents(patch, tmp_path, kill_at=number)
            train(config_of(f'killed_{number}'), mmengine.runner.Runner)
        folder = tmp_path / f'killed_{number}'
        named = mmengine.runner.find_latest_checkpoint(str(folder))
        assert 'optimizer' in load_from_local(named)
