"""Settings are chosen on held-out images; results are on the test data."""

import json
import pkgutil
import sys

import pytest
import torch
from mmengine.runner import CheckpointLoader

from toast_mm.datasets import LoadImageFromFile
from toast_mm.datasets.kept_images import KeptImages
from toast_mm.engine import Runner


def records(out):
    lines = (out / 'runs.jsonl').read_text().splitlines() if (out / 'runs.jsonl').exists() else []
    return {record['name']: record for record in map(json.loads, filter(None, lines))}


@pytest.fixture
def job(classifier_job):
    """Two rates, two seeds; every second training image is held out."""
    with classifier_job.open('a') as file:
        file.write("""
optim_wrapper.update(optimizer=dict(type='SGD', lr=0.05, weight_decay=0.0))
train_cfg.update(max_epochs=1)
del default_hooks['visualization']
held_out = {
    'train_dataloader.dataset.indices': list(range(0, 12, 2)),
    'val_dataloader.dataset.data_root': train_dataloader['dataset']['data_root'],
    'val_dataloader.dataset.indices': list(range(1, 12, 2)),
}
search = dict(lr=[0.5, 0.05], weight_decay=[0.0], seeds=[3, 4], held_out=held_out)
""")
    return classifier_job


def test_held_out_images_choose_and_test_images_decide(tool, job, tmp_path, capsys):
    out = tmp_path / 'out'
    tool('sweep', job, '--out-dir', out)
    runs = records(out)
    searched = [f'classifier/search/{lr}-0.0' for lr in (0.05, 0.5)]
    assert sorted(runs) == sorted([*searched, 'classifier/3', 'classifier/4'])
    held_out = [runs[name]['metrics']['accuracy/top1'] for name in searched]
    best = (0.05, 0.5)[held_out.index(max(held_out))]
    values = [runs[f'classifier/{seed}']['metrics']['accuracy/top1'] for seed in (3, 4)]
    sixths, eighths = [v * 6 / 100 for v in held_out], [v * 8 / 100 for v in values]
    assert sixths == pytest.approx([round(v) for v in sixths], abs=1e-3)  # 6 images held out
    assert eighths == pytest.approx([round(v) for v in eighths], abs=1e-3)  # 8 test images
    table = (out / 'table.md').read_text()
    assert f'| classifier | {sum(values) / 2:.1f} ± ' in table
    assert f'| lr {best:g}, weight_decay 0 | {max(held_out):.1f} |' in table
    assert table in capsys.readouterr().out


def test_the_data_set_of_the_environment_is_a_part_of_the_name(tool, job, tmp_path, monkeypatch):
    with job.open('a') as file:
        file.write("data_set = '{{$DATASET:first}}'\nsearch.update(lr=[0.1], seeds=[3])\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('DATASET', 'second')
    tool('sweep', job)
    runs = records(tmp_path / 'work_dirs/classifier_second')
    assert {run['job'] for run in runs.values()} == {'classifier_second'}
    assert 'classifier_second/3' in runs
    assert (
        '| classifier_second |' in (tmp_path / 'work_dirs/classifier_second/table.md').read_text()
    )


def test_another_table_is_not_replaced(tool, job, tmp_path):
    (tmp_path / 'table.md').write_text('mine')
    with pytest.raises(SystemExit, match=r'table\.md exists already, but .* holds no sweep'):
        tool('sweep', job, '--out-dir', tmp_path)
    assert (tmp_path / 'table.md').read_text() == 'mine'
    assert not (tmp_path / 'runs.jsonl').exists()


def test_test_data_must_not_choose(tool, job, tmp_path):
    with job.open('a') as file:
        file.write("search.pop('held_out')\n")
    with pytest.raises(
        SystemExit, match=r'choose by 8 images that are also used for the final test, .*png'
    ):
        tool('sweep', job, '--out-dir', tmp_path / 'out')
    with job.open('a') as file:
        file.write("search['held_out'] = {'train_dataloader.dataset.indices': [1, 2]}\n")
    with pytest.raises(
        SystemExit, match='choose by 8 images that are also used for the final test'
    ):
        tool('sweep', job, '--out-dir', tmp_path / 'out')  # nothing of val_dataloader
    with job.open('a') as file:
        file.write(
            "search['held_out'] = {**held_out, 'train_dataloader.dataset.indices': [1, 2]}\n"
        )
    with pytest.raises(SystemExit, match='choose by 1 images that are also trained on'):
        tool('sweep', job, '--out-dir', tmp_path / 'out')
    for change, message in (
        ('search.seeds=[]', r'search\.seeds=\[\] must be a list of different values'),
        ('search.lr=0.1', r'search\.lr=0\.1 must be a list'),
        ('search.seeds=[1,1]', r'search\.seeds=\[1, 1\] must be a list of different'),
        ('search.seeds=[x]', r"search\.seeds=\['x'\] must be a list of integers"),
        ('search.seeds=[1.5]', r'search\.seeds=\[1\.5\] must be a list of integers'),
        ('search.lr=[a,b]', r"search\.lr=\['a', 'b'\] must be a list of numbers"),
        ('search.lr=[-1,1]', r'search\.lr=\[-1, 1\] must not be negative'),
        ('search=3', r'search=3 must be dict'),
    ):
        with pytest.raises(SystemExit, match=message):
            tool('sweep', job, '--out-dir', tmp_path / 'out', '--cfg-options', change)
    with pytest.raises(SystemExit, match='--workers 0 must be at least 1'):
        tool('sweep', job, '--out-dir', tmp_path / 'out', '--workers', '0')
    with pytest.raises(SystemExit, match=r'config file nowhere\.py does not exist'):
        tool('sweep', 'nowhere.py')
    assert not (tmp_path / 'out').exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    'where',
    ['toast_mm.engine.Runner.dump_config', 'mmengine.runner.EpochBasedTrainLoop.run_epoch'],
)
def test_ctrl_c(where, tool, job, tmp_path, monkeypatch, capsys):
    """In the second run, while it writes its config and while it trains."""
    out = tmp_path / 'out'
    module, _, name = where.rpartition('.')
    owner = pkgutil.resolve_name(module)
    plain = getattr(owner, name)

    def interrupted(*args, **kwargs):
        if records(out):
            raise KeyboardInterrupt
        return plain(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(SystemExit) as ended:
            tool('sweep', job, '--out-dir', out)
    assert ended.value.code == 130
    assert f'finished runs are in {out}; the same command continues' in capsys.readouterr().out
    before = records(out)
    assert len(before) == 1
    tool('sweep', job, '--out-dir', out)
    assert len(records(out)) == 4
    assert records(out).items() >= before.items()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--partition', 'gpu'], '--partition and --job-options are for jobs of a cluster: add'),
        (['--executor', 'submitit', '--gpus', '0'], '--gpus 0 are those of this machine; jobs get'),
        (['--executor', 'submitit', '--partition', 'gpu'], r'pip install "toast_mm\[submitit\]"'),
    ],
)
def test_jobs_that_cannot_be_submitted(tool, job, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setitem(sys.modules, 'submitit', None)
    with pytest.raises(SystemExit, match=message):
        tool('sweep', job, '--out-dir', tmp_path / 'out', *arguments)


@pytest.mark.parametrize('workers', [0, 1])
def test_a_run_is_the_training_of_the_train_tool(tool, job, tmp_path, monkeypatch, workers):
    """Bit for bit, with images decoded or kept in memory, first or later in a process."""
    text = job.read_text().replace("type='LoadImage", "type='toast_mm.LoadImage")
    loaders = dict(num_workers=workers, persistent_workers=workers > 0)
    text += f'train_dataloader.update({loaders})\nval_dataloader.update({loaders})\n'
    job.write_text(
        text + 'train_cfg.update(max_epochs=3)\nsearch.update(lr=[0.05], seeds=[3, 4])\n'
    )

    weights = []
    original = Runner.train

    def train(self):
        original(self)
        weights.append({name: value.clone() for name, value in self.model.state_dict().items()})

    monkeypatch.setattr(Runner, 'train', train)
    decoded = []
    decode = LoadImageFromFile.decode
    monkeypatch.setattr(
        LoadImageFromFile, 'decode', lambda *args: decoded.append(args[2]) or decode(*args)
    )
    monkeypatch.setattr('toast_mm.experiments.sweep._images', KeptImages(2**20))
    out = tmp_path / 'out'
    tool('sweep', job, '--out-dir', out)
    assert len(decoded) == len(set(decoded)) == 12 + 8  # images to train and to validate on
    assert not [*out.rglob('*.pth'), *out.rglob('*.safetensors')]
    swept = [records(out)[f'classifier/{seed}'] for seed in (3, 4)]
    assert weights[1].keys() == weights[2].keys()
    assert any(not torch.equal(value, weights[2][name]) for name, value in weights[1].items())
    for number, seed in enumerate((3, 4)):
        folder = tmp_path / f'train{seed}'
        options = (f'randomness.seed={seed}', 'optim_wrapper.optimizer.weight_decay=0.0')
        tool('train', job, '--work-dir', folder, '--cfg-options', *options)
        scalars = next(folder.rglob('scalars.json')).read_text().splitlines()
        assert json.loads(scalars[-1])['accuracy/top1'] == swept[number]['metrics']['accuracy/top1']
        saved = CheckpointLoader.load_checkpoint(str(folder / 'epoch_3.pth'), 'cpu')['state_dict']
        for name, value in weights[number + 1].items():
            assert torch.equal(saved[name], value)
