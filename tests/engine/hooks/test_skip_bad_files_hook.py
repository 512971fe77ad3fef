"""Training over files that cannot be read."""

import numpy as np
import pytest
from mmengine.hooks import Hook
from painted import draw
from toy_images import SIZES

from toast_mm.engine import Runner, SkipBadFilesHook

SIDE = SIZES['img_size']


class Seen(Hook):
    """The files of every batch."""

    def __init__(self):
        self.batches = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        paths = [sample.img_path for sample in data_batch['data_samples']]
        self.batches.append([path.rsplit('/', 1)[-1] for path in paths])


@pytest.fixture
def photos(tmp_path):
    """Six images in the order of their names; 1 and 2 are broken."""
    for number in range(6):
        path = draw(tmp_path / 'ab'[number > 2] / f'{number}.png', (SIDE, SIDE), number)
        if number in (1, 2):
            path.write_bytes(path.read_bytes()[:40])
    return tmp_path


@pytest.fixture
def train(steered_config, photos, tmp_path):
    """Train two epochs; return the files of every batch, and the warnings."""

    def train(*hooks, num_workers=0, load='toast_mm.LoadImageFromFile', **load_settings):
        cfg = steered_config(tmp_path / 'run', *hooks, by_epoch=True)
        cfg.train_cfg.max_epochs = 2
        cfg.train_dataloader.update(num_workers=num_workers, batch_size=3)
        cfg.train_dataloader.dataset = dict(
            type='mmpretrain.CustomDataset',
            data_root=str(photos),
            with_label=True,
            pipeline=[
                dict(type='toast_mm.SeedAugmentation'),
                dict(type=load, **load_settings),
                dict(type='mmpretrain.PackInputs'),
            ],
        )
        cfg.train_dataloader.sampler = dict(type='toast_mm.DefaultSampler', shuffle=False)
        runner = Runner.from_cfg(cfg)
        lines = []
        runner.logger.warning = lines.append
        runner.register_hook(seen := Seen())
        runner.train()
        return seen.batches, [line for line in lines if 'skipped' in line]

    return train


def test_without_the_hook_the_file_is_named(train):
    with pytest.raises(ValueError, match=r'a/1\.png cannot be decoded as an image'):
        train()


@pytest.mark.parametrize('num_workers', [0, 2])
def test_the_next_sample_takes_the_place(train, photos, num_workers):
    batches, lines = train(dict(type='toast_mm.SkipBadFilesHook'), num_workers=num_workers)
    assert batches == 2 * [['0.png', '3.png', '3.png'], ['3.png', '4.png', '5.png']]
    one, two = f'{photos}/a/1.png', f'{photos}/a/2.png'
    epoch = (
        'In this epoch, 3 samples were skipped, since 2 files cannot be read: '  # 1, then 2 twice
        f'{one}, {two}'
    )
    assert lines == [
        *(f'{file} is skipped: {file} cannot be decoded as an image' for file in (one, two)),
        epoch,
        epoch,
    ]


def test_loaders_of_mmcv(train, photos):
    """They do not name the file."""
    (photos / 'b' / '4.png').unlink()
    (photos / 'b' / '4.png').mkdir()
    _, lines = train(dict(type='toast_mm.SkipBadFilesHook'), load='mmcv.LoadImageFromFile')
    assert [line.split(' is skipped')[0] for line in lines[:2]] == [
        f'{photos}/a/1.png', f'{photos}/a/2.png'
    ]  # fmt: skip


def test_limit(train):
    with pytest.raises(ValueError, match=r'2 files cannot be read, more than Skip.*\(limit=1\)'):
        train(dict(type='toast_mm.SkipBadFilesHook', limit=1))
    with pytest.raises(ValueError, match='limit=0 must be at least 1'):
        SkipBadFilesHook(limit=0)
    batches, _ = train(dict(type='toast_mm.SkipBadFilesHook', limit=2))
    assert len(batches) == 4


def test_nothing_can_be_read(train, photos):
    for path in photos.rglob('*.png'):
        path.write_bytes(b'no image')
    with pytest.raises(ValueError, match=r'no sample can be read; the first: .*a/0\.png cannot'):
        train(dict(type='toast_mm.SkipBadFilesHook'))


def test_other_errors_end_the_training(train, photos, monkeypatch):
    """Such as one of a transform that does not load."""

    def fail(self, results):
        raise ValueError('a mistake in the config')

    monkeypatch.setattr('mmpretrain.datasets.transforms.PackInputs.transform', fail)
    with pytest.raises(ValueError, match=r'^a mistake in the config'):
        train(dict(type='toast_mm.SkipBadFilesHook'))


def test_ignore_empty_is_not_silent(train, photos, monkeypatch):
    """mmengine takes another sample at random."""
    lines = []
    monkeypatch.setattr('toast_mm.datasets.loading.print_log', lambda text, **_: lines.append(text))
    np.random.seed(0)
    train(ignore_empty=True)
    assert {*lines} == {
        f'{photos}/a/{number}.png cannot be decoded as an image; another sample takes its place '
        '(ignore_empty=True)'
        for number in (1, 2)
    }
    assert len(lines) == 2  # once for each file
