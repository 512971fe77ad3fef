"""A command on a full disk names the file in its error, and leaves no incomplete file."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

SWEEP = """
optim_wrapper.update(optimizer=dict(type='SGD', lr=0.05, weight_decay=0.0))
train_cfg.update(max_epochs=1)
data = train_dataloader['dataset']['data_root']
held_out = {'train_dataloader.dataset.indices': [0], 'val_dataloader.dataset.indices': [1]}
held_out['val_dataloader.dataset.data_root'] = data
search = dict(lr=[0.5], weight_decay=[0.0], seeds=[3], held_out=held_out)
"""


@pytest.fixture(autouse=True)
def files(classifier_job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with classifier_job.open('a') as file:
        file.write(SWEEP)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(Config.fromfile(classifier_job).model)
    torch.save(dict(state_dict=model.state_dict()), 'w.pth')
    (tmp_path / 'runs').mkdir()
    metrics = {'accuracy/top1': 50.0}
    record = dict(name='a', job='a_b_c_d', phase='final', seed=1, tuned=9, metrics=metrics)
    (tmp_path / 'runs' / 'runs.jsonl').write_text(json.dumps(record))


@pytest.mark.parametrize(
    ('full', 'command'),
    [
        ('m*.json', 'test classifier.py w.pth --out m.json --out-item metrics'),
        ('m*.pkl', 'test classifier.py w.pth --out m.pkl'),
        ('0_1.png*', 'test classifier.py w.pth --show-dir show'),
        ('config.py', 'test classifier.py w.pth'),
        ('scalars.json', 'train classifier.py'),
        ('2*.log', 'train classifier.py'),
        ('classifier*', 'train classifier.py --work-dir out'),
        ('t*.md', 'analysis_tools/result_table runs --out t.md'),
        ('t*.png', 'analysis_tools/result_table runs --curve t.png'),
        ('runs.jsonl', 'sweep classifier.py --out-dir out'),
        ('table*', 'sweep classifier.py --out-dir out'),
    ],
)
def test_it_is_named_and_not_left(tool, tmp_path, full_disk, full, command):
    full_disk(full)
    before = {*tmp_path.rglob('*')}
    with pytest.raises(SystemExit) as exit_:
        tool(*command.split())
    path, sentence = str(exit_.value).split(' cannot be written: ')
    assert (tmp_path / path).match(full)
    assert '[Errno 28] No space left on device' in sentence
    left = {p.name for p in {*tmp_path.rglob(full)} - before if p.is_file()}
    assert all(name.endswith(('scalars.json', '.log', '.jsonl')) for name in left)  # line by line
