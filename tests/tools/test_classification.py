"""tools/train.py and tools/test.py on an mmpretrain classifier_job that names the backbone."""

import json
import pickle
from pathlib import Path

import pytest


def test_train_and_test(tool, classifier_job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tool('train', classifier_job)
    work_dir = tmp_path / 'work_dirs' / 'classifier'  # where mm users look
    assert (work_dir / 'epoch_4.pth').exists()

    tool('test', classifier_job, work_dir / 'epoch_4.pth', '--out', 'o.pkl', '--show-dir', 'show')
    predictions = pickle.loads(Path('o.pkl').read_bytes())
    assert len(predictions) == len(list(Path('show').rglob('*.png'))) == 8
    tool(
        *('test', classifier_job, work_dir / 'epoch_4.pth'),
        *('--out', 'm.json', '--out-item', 'metrics'),
    )
    right = sum(int(p['pred_label'] == p['gt_label']) for p in predictions)
    metrics = json.loads(Path('m.json').read_text())
    assert metrics['accuracy/top1'] == pytest.approx(100 * right / 8)


def test_flips_at_test_time(tool, classifier_job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tool('train', classifier_job, '--cfg-options', 'train_cfg.max_epochs=1')
    checkpoint = tmp_path / 'work_dirs' / 'classifier' / 'epoch_1.pth'
    tool('test', classifier_job, checkpoint, '--out', 'plain.pkl')
    tool('test', classifier_job, checkpoint, '--out', 'flips.pkl', '--tta')
    plain, flips = (pickle.loads(Path(f'{name}.pkl').read_bytes()) for name in ('plain', 'flips'))
    pairs = list(zip(plain, flips, strict=True))
    assert all(p['img_path'] == f['img_path'] for p, f in pairs)
    assert any((p['pred_score'] != f['pred_score']).any() for p, f in pairs)


def test_resumed_training_ends_as_an_undisturbed_one(tool, classifier_job, tmp_path, monkeypatch):
    import torch

    from toast_mm.checkpoint import load_from_local

    monkeypatch.chdir(tmp_path)
    tool('train', classifier_job, '--work-dir', 'a')
    tool('train', classifier_job, '--work-dir', 'b', '--cfg-options', 'train_cfg.max_epochs=2')
    tool('train', classifier_job, '--work-dir', 'b', '--resume')
    whole, parts = (load_from_local(f'{name}/epoch_4.pth')['state_dict'] for name in 'ab')
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name


@pytest.mark.slow
def test_compiled_backbone_trains_as_a_plain_one(tool, classifier_job, tmp_path, monkeypatch):
    """Captured whole, with drop path, and run by the compiler's simplest backend."""
    import torch

    from toast_mm.checkpoint import load_from_local

    monkeypatch.chdir(tmp_path)
    options = ('--cfg-options', 'train_cfg.max_epochs=2', 'model.backbone.drop_path_rate=0.3')
    captured = []

    def backend(graph, inputs):
        captured.append(graph)
        return graph

    torch._dynamo.reset()
    torch._dynamo.register_backend(backend, name='counting')
    tool('train', classifier_job, '--work-dir', 'a', *options)
    assert not captured
    tool('train', classifier_job, '--work-dir', 'b', *options, 'compile.backend=counting')
    assert captured
    plain, compiled = (load_from_local(f'{name}/epoch_2.pth')['state_dict'] for name in 'ab')
    assert plain.keys() == compiled.keys()
    for name, tensor in plain.items():
        torch.testing.assert_close(tensor, compiled[name])
