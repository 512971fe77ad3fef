"""The best layer on validation data: chosen, saved with its epoch, and used in a test."""

import shutil

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from PIL import Image

from toast_mm.checkpoint import load_from_local
from toast_mm.engine import Runner
from toast_mm.evaluation import LayerAccuracy

INCA = dict(type='toast_mm.InCAHead', num_classes=2, in_channels=16, num_layers=4)
KEY = 'head.best_layer'


@pytest.fixture
def job(steered_config, tmp_path):
    """Config of 3 epochs of InCA on four layers, each epoch validated and saved."""

    def make(*hooks, folder='work', head=None, **changes) -> Config:
        changes.setdefault('by_epoch', True)
        backbone = dict(feedback_from=None, out_type='raw', out_indices=(0, 1, 2, 3))
        hooks = hooks or (dict(type='toast_mm.BestLayerHook'),)
        cfg = steered_config(tmp_path / folder, *hooks, backbone=backbone, **changes)
        cfg.model.head = head or INCA
        for mode in ('val', 'test'):
            cfg[f'{mode}_dataloader'] = dict(
                batch_size=3,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(
                    type='toast_mm.ToyImages', pipeline=[dict(type='toast_mm.PackToyImage')]
                ),
            )
            cfg[f'{mode}_evaluator'] = dict(type='toast_mm.LayerAccuracy')
            cfg[f'{mode}_cfg'] = dict()
        return cfg

    return make


@pytest.fixture
def script(monkeypatch):
    """Fake the accuracies of the layers, one list per validation."""

    def follow(*validations):
        pending = list(validations)

        def compute_metrics(self, results):
            return {f'layer{i}/top1': score for i, score in enumerate(pending.pop(0))} | {'top1': 1}

        monkeypatch.setattr(LayerAccuracy, 'compute_metrics', compute_metrics)

    return follow


def saved(folder, name):
    return load_from_local(str(folder / name))['state_dict'][KEY].item()


class Watch(Hook):
    """Records the layer before every validation, and the losses of every step."""

    def __init__(self) -> None:
        self.best, self.losses = [], []

    def before_val_epoch(self, runner) -> None:
        self.best.append(runner.model.head.best_layer.item())

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.losses.append({name: value.item() for name, value in outputs.items()})


def test_the_highest_and_of_equals_the_lowest_layer(job, run, script, capsys):
    script([50, 70, 70, 60], [80, 70, 70, 60], [10, 20, 90, 90])
    watch = Watch()
    runner = run(job(log_level='INFO'), watch)
    assert watch.best == [3, 1, 0]  # at first the last
    assert runner.model.head.best_layer.item() == 2
    said = 'best layer is output 2 of 4, 90.00% of top-1 accuracy; all: 10.00, 20.00, 90.00, 90.00'
    assert said in capsys.readouterr().out


def test_every_checkpoint_has_the_layer_of_its_own_validation(job, run, script, tmp_path):
    script([50, 70, 70, 60], [50, 70, 70, 60], [10, 20, 90, 90])
    run(job())
    layers = [saved(tmp_path / 'work', f'epoch_{epoch}.pth') for epoch in (1, 2, 3)]
    assert layers == [1, 1, 2]
    assert not list(tmp_path.rglob('*partial*'))


def test_what_is_written_again_is_otherwise_the_same(job, run, script, tmp_path):
    """It is only written if the choice has changed."""
    script([50, 70, 70, 60], [0, 1, 0, 0])
    writes = []

    class Copy(Hook):
        priority = 'HIGHEST'

        def before_val_epoch(self, runner) -> None:
            path = tmp_path / 'work' / f'epoch_{runner.epoch}.pth'
            shutil.copy(path, tmp_path)
            writes.append((path, path.stat().st_mtime_ns))

    run(job(train_cfg__max_epochs=2), Copy())
    assert [path.stat().st_mtime_ns == before for path, before in writes] == [False, True]
    former = load_from_local(str(tmp_path / 'epoch_1.pth'))
    again = load_from_local(str(tmp_path / 'work' / 'epoch_1.pth'))
    assert former['state_dict'].pop(KEY).item() == 3
    assert again['state_dict'].pop(KEY).item() == 1
    assert again.keys() == former.keys() >= {'meta', 'optimizer', 'message_hub'}
    assert again['meta'] == former['meta']
    assert list(again['state_dict']) == list(former['state_dict'])
    for name, value in former['state_dict'].items():
        assert torch.equal(again['state_dict'][name], value), name


def test_checkpoints_of_former_iterations_stay_as_they_are(job, run, script, tmp_path):
    """Validation after 3, 6 and 9 iterations, checkpoints after 5 and 9."""
    script([9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 9, 0])
    run(job(by_epoch=False, train_cfg__max_iters=9, train_cfg__val_interval=3))
    assert saved(tmp_path / 'work', 'iter_5.pth') == 0
    assert saved(tmp_path / 'work', 'iter_9.pth') == 2


def test_best_checkpoints(job, run, script, tmp_path):
    script([50, 70, 70, 60], [80, 10, 10, 10], [10, 20, 30, 10])
    metric = 'accuracy/layer0/top1'
    run(job(default_hooks__checkpoint__save_best=metric))
    assert saved(tmp_path / 'work', 'best_accuracy_layer0_top1_epoch_2.pth') == 0
    assert saved(tmp_path / 'work', 'epoch_3.pth') == 2


def test_a_test_uses_it(job, run, tmp_path):
    """A real training; the images of the test are those of the validation."""
    cfg = job(optim_wrapper__optimizer=dict(type='AdamW', lr=0.02), train_cfg__max_epochs=3)
    runner = run(cfg)
    history = runner.message_hub
    last = [history.get_scalar(f'val/accuracy/layer{i}/top1').data[0][-1] for i in range(4)]
    best = int(np.argmax(last))
    assert len(set(last)) > 1 and best != 3  # or nothing would be seen
    assert saved(tmp_path / 'work', 'epoch_3.pth') == best

    cfg = job(folder='test')
    cfg.load_from = str(tmp_path / 'work' / 'epoch_3.pth')
    tester = Runner.from_cfg(cfg)
    metrics = tester.test()
    assert tester.model.head.best_layer.item() == best
    assert metrics['accuracy/top1'] == metrics[f'accuracy/layer{best}/top1'] == last[best]


def test_a_resumed_training_is_as_an_uninterrupted_one(job, run, script, tmp_path):
    scores = [50, 70, 70, 60], [80, 70, 70, 60], [90, 20, 90, 90]
    script(*scores)
    whole = run(job())
    (tmp_path / 'resumed').mkdir()
    shutil.copy(tmp_path / 'work' / 'epoch_1.pth', tmp_path / 'resumed')
    script(*scores)  # the first one is made again: the checkpoint was saved before it
    watch = Watch()
    resumed = run(job(folder='resumed', resume=True), watch)
    assert watch.best == [1, 1, 0]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_beside_an_average_of_the_weights(job, run, script, tmp_path):
    """EMAHook saves its own buffers in place of the model's."""
    script([50, 70, 70, 60], [80, 10, 10, 10], [0, 1, 0, 0])
    hooks = dict(type='EMAHook'), dict(type='toast_mm.BestLayerHook')
    run(job(*hooks, default_hooks__checkpoint__save_best='accuracy/layer0/top1'))
    assert [saved(tmp_path / 'work', f'epoch_{epoch}.pth') for epoch in (1, 2, 3)] == [1, 0, 1]
    assert saved(tmp_path / 'work', 'best_accuracy_layer0_top1_epoch_2.pth') == 0
    for epoch, best in ((1, 1), (2, 0), (3, 1)):  # a resumed training takes these
        checkpoint = load_from_local(str(tmp_path / 'work' / f'epoch_{epoch}.pth'))
        assert checkpoint['ema_state_dict'][f'module.{KEY}'].item() == best


def test_a_wrapped_model(job, run, script, tmp_path, one_process_group):
    script([50, 70, 70, 60])
    runner = run(job(train_cfg__max_epochs=1), wrap=MMDistributedDataParallel)
    assert isinstance(runner.model, MMDistributedDataParallel)
    assert runner.model.module.head.best_layer.item() == 1
    assert saved(tmp_path / 'work', 'epoch_1.pth') == 1


def test_another_prefix(job, run, script):
    script([50, 70, 70, 60])
    cfg = job(train_cfg__max_epochs=1)
    cfg.val_evaluator.prefix = 'val'
    assert run(cfg).model.head.best_layer.item() == 1


def test_a_validation_alone_changes_nothing(job, script):
    script([50, 70, 70, 60])
    runner = Runner.from_cfg(job())
    runner.val()
    assert runner.model.head.best_layer.item() == 3


def test_a_checkpoint_that_is_no_local_file(job, run, script, monkeypatch, capsys):
    script([50, 70, 70, 60])
    monkeypatch.setattr('toast_mm.engine.hooks.best_layer_hook.osp.isfile', lambda path: False)
    run(job(train_cfg__max_epochs=1))
    assert 'epoch_1.pth is not a local file and keeps the previous best' in capsys.readouterr().out


def test_another_head_is_refused(job, run):
    cfg = job(head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=16))
    cfg.model.backbone.out_type = 'cls_token'
    with pytest.raises(ValueError, match=r'^BestLayerHook: the head is a VisionTransformerClsHead'):
        run(cfg)


@pytest.mark.parametrize('change', ['metric', 'none'])
def test_nothing_to_choose_by_is_refused(job, run, change):
    cfg = job()
    if change == 'metric':
        cfg.val_evaluator = dict(type='Accuracy', _scope_='mmpretrain')
    else:
        cfg.val_evaluator = cfg.val_dataloader = cfg.val_cfg = None
    with pytest.raises(ValueError, match=r"set val_evaluator=dict\(type='toast_mm.LayerAccuracy'"):
        run(cfg)


def test_training_on_cached_outputs(job, run, tmp_path):
    """Losses and choices are those without the cache, and the backbone does not run."""
    rng = np.random.default_rng(0)
    for number in range(7):
        path = tmp_path / 'images' / 'ab'[number % 2] / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    watches, runners = [], []
    for cache in (None, dict(folder=str(tmp_path / 'cache'), dtype='float32')):
        cfg = job(folder=f'cache_{bool(cache)}')
        for mode in ('train', 'val'):
            cfg[f'{mode}_dataloader'].dataset = ConfigDict(
                type='CustomDataset',
                _scope_='mmpretrain',
                data_root=str(tmp_path / 'images'),
                pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
            )
        cfg.first_pass_cache = cache
        watches.append(Watch())
        runners.append(run(cfg, watches[-1]))
    without, cached = watches
    names = {f'loss_layer{layer}' for layer in range(4)}
    assert len(cached.losses) == 12 and set(cached.losses[0]) == {'loss', *names}
    for former, now in zip(without.losses, cached.losses, strict=True):
        assert now == pytest.approx(former, rel=1e-5, abs=1e-6)
        assert now['loss'] == pytest.approx(sum(now[name] for name in names))
    assert without.losses[-1]['loss'] != pytest.approx(without.losses[0]['loss'], rel=0.01)
    assert cached.best == without.best
    assert {file.name for file in tmp_path.glob('cache/*/*.npy')} == {f'{i}.npy' for i in range(4)}
