"""The protocol of VTAB-1k on two generated tasks: killed, continued, on cached first passes."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT
from PIL import Image

TASKS = {'kitti': 4, 'shades': 3}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Gray images whose brightness is their class, mostly."""
    root = tmp_path_factory.mktemp('vtab')
    rng = np.random.default_rng(0)
    for task, classes in TASKS.items():
        lists = {}
        for split, number in (('train', 12), ('val', 8), ('test', 8)):
            lines = []
            for index in range(number):
                label = index % classes
                shade = 40 + 60 * label + rng.integers(-30, 30, (16, 16, 3))
                path = root / task / 'images' / f'{split}{index}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(shade.astype(np.uint8)).save(path)
                lines.append(f'images/{path.name} {label}')
            lists[split] = lines
        lists['trainval'] = lists['train'] + lists['val']
        names = {'train': 'train800', 'val': 'val200', 'trainval': 'train800val200', 'test': 'test'}
        for split, lines in lists.items():
            name = names[split] if task == 'kitti' else split
            (root / task / f'{name}.txt').write_text('\n'.join(lines))
    return root


@pytest.fixture(scope='module')
def job(tmp_path_factory):
    """A small version of the real config: 2 rates, 2 decays, 2 seeds, 3 epochs."""
    path = tmp_path_factory.mktemp('job') / 'tiny.py'
    path.write_text(f"""
_base_ = '{ROOT}/configs/vtab/toast-last_vit-b16-in21k_1xb32-100e_vtab-224x224.py'
search = dict(lr=[0.4, 0.1], weight_decay=[0.01, 0.0], seeds=[42, 44])
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=8),
        img_size=16,
        patch_size=8,
        init_cfg=None,
    ),
    head=dict(in_channels=8),
)
pipeline = [
    dict(type='toast_mm.LoadImageFromFile'),
    dict(type='Resize', scale=(16, 16)),
    dict(type='PackInputs'),
]
_dataset = dict(pipeline=pipeline)
_loader = dict(batch_size=4, num_workers=0, persistent_workers=False, dataset=_dataset)
train_dataloader = _loader
val_dataloader = _loader
test_dataloader = _loader
param_scheduler = []
train_cfg = dict(max_epochs=3, val_interval=3)
custom_hooks = [dict(type='toast_mm.StepSeedHook'), dict(type='toast_mm.DataCheckHook')]
""")
    return path


def command(job, data, out, *options):
    return [job, '--data-root', data, '--tasks', *TASKS, '--out-dir', out, *options]


def records(out):
    lines = (out / 'runs.jsonl').read_text().splitlines() if (out / 'runs.jsonl').exists() else []
    return [json.loads(line) for line in lines if line.endswith('}')]


@pytest.fixture(scope='module')
def undisturbed(job, data, tmp_path_factory):
    out = tmp_path_factory.mktemp('undisturbed')
    script = [sys.executable, ROOT / 'tools' / 'vtab.py', *command(job, data, out)]
    printed = subprocess.run(script, check=True, capture_output=True, text=True, cwd=out).stdout
    return out, printed


@pytest.mark.slow
def test_protocol(undisturbed):
    out, printed = undisturbed
    runs = records(out)
    names = [run['name'] for run in runs]
    points = [f'{lr}-{decay}' for lr in (0.1, 0.4) for decay in (0.01, 0.0)]
    expected = [f'{task}/search/{point}' for task in TASKS for point in points]
    expected += [f'{task}/{seed}' for task in TASKS for seed in (42, 44)]
    assert sorted(names) == sorted(expected)
    metric = {run['name']: run['metrics']['accuracy/top1'] for run in runs}
    assert len(set(metric.values())) > 2
    table = (out / 'table.md').read_text()
    assert table in printed
    for task, title in (('kitti', 'KITTI/distance'), ('shades', 'shades')):
        held_out = [metric[f'{task}/search/{point}'] for point in points]
        best = points[held_out.index(max(held_out))].split('-')
        values = [metric[f'{task}/{seed}'] for seed in (42, 44)]
        row = (
            f'| {title} | {np.mean(values):.1f} ± {np.std(values, ddof=1):.1f} | '
            f'lr {float(best[0]):g}, weight_decay {float(best[1]):g} | {max(held_out):.1f} |'
        )
        assert row in table
    assert '| **mean, Structured (1 task)** |' in table
    assert '| **mean, all (2 tasks)** |' in table


@pytest.mark.slow
def test_killed_twice(undisturbed, job, data, tmp_path):
    """The table is that of an undisturbed run, no run is repeated, and no worker stays behind."""
    for workers, number in (('1', 2), ('2', 6)):
        options = command(job, data, tmp_path, '--workers', workers)
        script = [sys.executable, ROOT / 'tools' / 'vtab.py', *options]
        process = subprocess.Popen(
            script, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while len(records(tmp_path)) < number:
            assert process.poll() is None
            time.sleep(0.05)
        workers_of_it = children(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.time() + 30
        while any(map(is_running, workers_of_it)):
            assert time.time() < deadline, 'a worker outlives the tool'
            time.sleep(0.1)
    assert not (tmp_path / 'table.md').exists()
    subprocess.run(script, check=True, cwd=tmp_path, capture_output=True)
    runs = records(tmp_path)
    assert len({run['name'] for run in runs}) == len(runs) == 12
    assert (tmp_path / 'table.md').read_text() == (undisturbed[0] / 'table.md').read_text()


def children(pid):
    """Processes that a process has started, as far as this system says."""
    file = Path(f'/proc/{pid}/task/{pid}/children')
    return [int(child) for child in file.read_text().split()] if file.exists() else []


def is_running(pid):
    status = Path(f'/proc/{pid}/stat')
    return status.exists() and status.read_text().rpartition(')')[2].split()[0] != 'Z'


@pytest.mark.slow
def test_on_cached_first_passes(undisturbed, job, data, tmp_path, tool, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ('--cfg-options', 'first_pass_cache.dtype=float32')
    tool('vtab', *command(job, data, tmp_path, *options))
    expected = {run['name']: run['metrics'] for run in records(undisturbed[0])}
    for run in records(tmp_path):
        assert run['metrics'] == pytest.approx(expected[run['name']], abs=1e-5), run['name']
    assert (tmp_path / 'table.md').read_text() == (undisturbed[0] / 'table.md').read_text()
    assert list((tmp_path / 'work_dirs' / 'first_pass').glob('*/meta.json'))


def test_names_of_the_tasks(tool, capsys):
    with pytest.raises(SystemExit) as ended:
        tool('vtab', '--list')
    assert not ended.value.code
    names = capsys.readouterr().out.splitlines()
    assert len(names) == 19 and names[0] == 'cifar' and names[-1] == 'smallnorb_ele'


def test_mistakes_are_named_before_the_first_run(tool, job, data, tmp_path):
    arguments = ('--data-root', data, '--out-dir', tmp_path, '--tasks', 'kitti')
    with pytest.raises(SystemExit, match=r'/dsprite_loc does not exist; .*dsprites_loc'):
        tool('vtab', job, *arguments, 'dsprite_loc')
    with pytest.raises(SystemExit, match=r'/CIFAR-100 does not exist; .*: cifar'):
        tool('vtab', job, *arguments, 'CIFAR-100')
    with pytest.raises(SystemExit, match=r'config file nowhere\.py does not exist'):
        tool('vtab', 'nowhere.py', *arguments)
    with pytest.raises(SystemExit, match=r'has no search=dict\(lr='):
        tool('vtab', ROOT / 'configs/ade20k_toast_upernet.py', *arguments)
    assert not records(tmp_path)
