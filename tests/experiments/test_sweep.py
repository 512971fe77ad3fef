"""Sweeps on a classifier of two tiny classes."""

import json
import os
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue

import pytest
import torch
from mmengine.config import ConfigDict

import toast_mm.experiments.sweep
from toast_mm.datasets.kept_images import KeptImages
from toast_mm.engine.runner import build_runner
from toast_mm.experiments import Run, run_all
from toast_mm.experiments.sweep import KEPT_BYTES, _digest, _start_worker


def sweep(config: str) -> list[Run]:
    """A rate at which nothing is learned, and one at which something is."""
    return [
        Run(f'rate/{rate}', config, {'optim_wrapper.optimizer.lr': rate}, seed=1)
        for rate in (0.0, 0.5)
    ]


def records(folder: Path) -> list[dict]:
    lines = (folder / 'runs.jsonl').read_text().splitlines()
    return [json.loads(line) for line in lines if line]


def test_metrics_and_records(config, tmp_path, capsys):
    metrics = run_all(sweep(config), str(tmp_path / 'out'))
    assert set(metrics) == {'rate/0.0', 'rate/0.5'}
    assert metrics['rate/0.0']['accuracy/top1'] == 50  # one class for all
    lines = records(tmp_path / 'out')
    assert {line['name']: line['metrics'] for line in lines} == metrics
    assert all(line['seconds'] > 0 for line in lines)
    assert '2/2' in capsys.readouterr().out
    assert not list(tmp_path.rglob('*.pth'))


def test_finished_runs_are_not_repeated(config, tmp_path, monkeypatch):
    out = str(tmp_path / 'out')
    first = run_all(sweep(config)[:1], out)
    (tmp_path / 'out' / 'runs.jsonl').open('a').write('{"name": "rate/0.5", "metr')  # interrupted
    both = run_all(sweep(config), out)
    assert both['rate/0.0'] == first['rate/0.0']

    def fail(*args):
        raise AssertionError('trained again')

    monkeypatch.setattr('toast_mm.experiments.sweep._train', fail)
    assert run_all(sweep(config), out) == both
    with open(config, 'a') as file:  # without effect on a training
        file.write("\nsearch = dict(lr=[1.0])\n_private = 'name'\n")
    assert run_all(sweep(config), out) == both
    changed = Path(config).read_text().replace('max_epochs=2', 'max_epochs=3')
    Path(config).write_text(changed)
    with pytest.raises(AssertionError, match='trained again'):
        run_all(sweep(config), out)


@pytest.mark.slow
def test_several_at_once_give_the_same(config, tmp_path):
    alone = run_all(sweep(config), str(tmp_path / 'alone'))
    assert run_all(sweep(config), str(tmp_path / 'together'), workers=2) == alone


def test_a_run_that_fails_ends_the_sweep(config, tmp_path):
    runs = [Run('broken', config, {'model.backbone.feedback_from': 9}), *sweep(config)]
    with pytest.raises(ValueError, match='feedback_from=9'):
        run_all(runs, str(tmp_path / 'out'))
    assert not (tmp_path / 'out' / 'runs.jsonl').exists()


@pytest.mark.slow
def test_what_finishes_beside_a_failure_is_recorded(config, tmp_path):
    """What waits is not begun; the folder of an unfinished run is not a folder."""
    good, *others = sweep(config)
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'broken').write_text('in the way')
    runs = [good, Run('broken', config), *others, Run('last', config)]
    with pytest.raises(OSError, match='broken'):
        run_all(runs, str(tmp_path / 'out'), workers=2)
    lines = (tmp_path / 'out' / 'runs.jsonl').read_text().split('\n')
    names = {json.loads(line)['name'] for line in lines if line}
    assert good.name in names and 'last' not in names
    assert not (tmp_path / 'out' / 'last').exists()


def test_what_changes_no_outcome_is_no_part_of_a_run(config, tmp_path):
    def digest(**options):
        return _digest(
            Run('a', config, {k.replace('__', '.'): v for k, v in options.items()}).load()
        )

    plain = digest()
    assert digest(train_dataloader__num_workers=2, log_level='DEBUG') == plain
    assert digest(train_dataloader__batch_size=2) != plain
    weights = tmp_path / 'weights.pth'
    weights.write_bytes(b'1')
    named = digest(model__backbone__pretuned=str(weights))
    weights.write_bytes(b'22')
    assert digest(model__backbone__pretuned=str(weights)) != named != plain


def test_rates_are_scaled_to_the_batch(config, tmp_path, monkeypatch):
    """If the config asks for it: batches of 4, rates for batches of 8."""
    rates = []

    def spied(cfg):
        runner = build_runner(cfg)
        monkeypatch.setattr(runner, 'call_hook', spy(runner, runner.call_hook))
        return runner

    def spy(runner, call_hook):
        def call(name, **arguments):
            if name == 'after_train':
                rates.append(runner.optim_wrapper.get_lr()['lr'])
            call_hook(name, **arguments)

        return call

    monkeypatch.setattr('toast_mm.experiments.sweep.build_runner', spied)
    for enable in (True, False):
        scale = {'auto_scale_lr.enable': enable, 'auto_scale_lr.base_batch_size': 8}
        run_all([Run(str(enable), config, scale)], str(tmp_path / 'out'))
    assert rates == [[0.025], [0.05]]


def test_the_weights_of_the_package_that_a_job_names_are_part_of_it(config, monkeypatch, tmp_path):
    """Changed weights make another run, unless the run does not use them."""
    monkeypatch.setattr('toast_mm.experiments.sweep.WEIGHTS', tmp_path)
    base = {
        'model.backbone.init_cfg': dict(type='Pretrained', checkpoint='toast_mm://a.safetensors')
    }
    run = Run('a', config, base)
    digests = []
    for name, content in (('a', b'1'), ('b', b'1'), ('b', b'2'), ('a', b'2')):
        (tmp_path / f'{name}.safetensors').write_bytes(content)
        digests.append(_digest(run.load()))
    assert digests[0] == digests[1] == digests[2] != digests[3]


def test_a_run_is_the_same_whenever_it_is_loaded(config):
    """Settings that are replaced completely are so every time."""
    data = ConfigDict(_delete_=True, type='DefaultSampler')  # as from a config
    run = Run('a', config, {'train_dataloader.sampler': data})
    for _ in range(2):
        assert run.load().train_dataloader.sampler == dict(type='DefaultSampler')


def test_workers_share_the_devices(monkeypatch):
    """Each takes its place from the queue before CUDA starts."""
    places = SimpleQueue()
    for device in ('3', None):
        places.put(device)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', 'of the caller')
    threads = torch.get_num_threads()
    monkeypatch.setattr('toast_mm.experiments.sweep._images', KeptImages(1000))
    _start_worker(threads, places, 400)
    assert os.environ['CUDA_VISIBLE_DEVICES'] == '3'
    assert toast_mm.experiments.sweep._images.limit == 400
    _start_worker(threads, places, 400)
    assert os.environ['CUDA_VISIBLE_DEVICES'] == '3'


def test_devices_reach_the_workers(config, tmp_path, monkeypatch):
    given = []

    class Pool:
        def __init__(self, workers, context, initializer, arguments):
            places = arguments[1]
            given.extend(places.get() for _ in range(workers))
            assert arguments[2] == KEPT_BYTES // workers

        def submit(self, function, *arguments):
            future = Future()
            future.set_result(function(*arguments))
            return future

        def shutdown(self, **kwargs):
            pass

    monkeypatch.setattr('toast_mm.experiments.sweep.ProcessPoolExecutor', Pool)
    run_all(sweep(config), str(tmp_path / 'out'), workers=3, devices=['0', '1'])
    assert given == ['0', '1', '0']
