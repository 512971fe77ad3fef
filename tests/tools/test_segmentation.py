"""tools/train.py and tools/test.py on a segmentation config."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import tiny_ade20k

from toast_mm.checkpoint import load_from_local

CONFIG = 'configs/ade20k_toast_upernet.py'


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])


@pytest.fixture(scope='module')
def trained(ade20k, tmp_path_factory) -> Path:
    """Checkpoint of a short training."""
    from commands import start

    work_dir = tmp_path_factory.mktemp('trained')
    process = start(
        *('python', 'tools/train.py', CONFIG, '--work-dir', work_dir),
        *tiny_ade20k(ade20k),
    )
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output[-4000:]
    (work_dir / 'output.txt').write_text(output)
    return work_dir / 'iter_20.pth'


def test_training_begins_with_a_table_of_parameters(trained):
    output = (trained.parent / 'output.txt').read_text()
    rows = {
        cells[1]: cells[2:5]
        for line in output.splitlines()
        if len(cells := [cell.strip() for cell in line.split('|')]) == 6
    }
    tensors = load_from_local(str(trained))['state_dict']
    count = sum(t.numel() for name, t in tensors.items() if name.startswith('backbone.topdown.'))
    assert rows['backbone.topdown'] == [f'{count:,}', f'{count:,}', '100.00%']
    assert rows['backbone'][1:] == ['0', '0.00%']
    assert output.index('backbone.topdown') < output.index('Iter(train)')


def test_only_tuned_parameters_have_optimizer_state(trained):
    checkpoint = load_from_local(str(trained))
    tuned = [
        name
        for name in checkpoint['state_dict']
        if (not name.startswith('backbone.') or 'topdown' in name)
        and not name.endswith(('running_mean', 'running_var', 'num_batches_tracked'))
    ]
    assert len(checkpoint['optimizer']['state']) == len(tuned)


def test_training_made_the_loss_smaller(trained):
    log = next(trained.parent.glob('*/vis_data/scalars.json')).read_text().splitlines()
    losses = [entry['loss'] for line in log if 'loss' in (entry := json.loads(line))]
    assert losses[-1] < losses[0]


def run_test(tool, ade20k, trained, *arguments: str) -> None:
    work_dir = trained.parent / 'test'
    options = tiny_ade20k(ade20k)
    tool('test', CONFIG, trained, '--work-dir', work_dir, *arguments, *options)


def test_predictions_and_pictures(tool, ade20k, trained, tmp_path):
    run_test(tool, ade20k, trained, '--out', tmp_path / 'o.pkl', '--show-dir', tmp_path / 'show')
    predictions = pickle.loads((tmp_path / 'o.pkl').read_bytes())
    assert [Path(p['img_path']).stem for p in predictions] == ['ADE_0000', 'ADE_0001']
    for prediction in predictions:
        assert 'seg_logits' not in prediction
        labels = prediction['pred_sem_seg']['data']
        assert labels.shape == (1, 48, 64) and 0 <= labels.min() and labels.max() < 150
    assert len(list((tmp_path / 'show').rglob('*.png'))) == 2


def test_metrics_with_test_time_augmentation(tool, ade20k, trained, tmp_path):
    out = tmp_path / 'metrics.json'
    run_test(tool, ade20k, trained, '--tta', '--out', out, '--out-item', 'metrics')
    assert set(json.loads(out.read_text())) == {'aAcc', 'mIoU', 'mAcc'}


def test_metrics_are_those_of_the_predictions(tool, ade20k, trained, tmp_path):
    run_test(tool, ade20k, trained, '--out', tmp_path / 'o.pkl')
    run_test(tool, ade20k, trained, '--out', tmp_path / 'm.json', '--out-item', 'metrics')
    right = valid = 0
    for prediction in pickle.loads((tmp_path / 'o.pkl').read_bytes()):
        from PIL import Image

        truth = np.array(Image.open(prediction['seg_map_path'])).astype(int) - 1  # 0 is ignored
        labels = prediction['pred_sem_seg']['data'][0].numpy()
        right += ((labels == truth) & (truth >= 0)).sum()
        valid += (truth >= 0).sum()
    metrics = json.loads((tmp_path / 'm.json').read_text())
    assert metrics['aAcc'] == pytest.approx(100 * right / valid, abs=0.01)


def test_resume_from_a_named_checkpoint(tool, ade20k, trained, tmp_path):
    options = tiny_ade20k(ade20k, **{'train_cfg.max_iters': '22'})
    arguments = ('--work-dir', tmp_path, '--no-validate')
    tool('train', CONFIG, *arguments, '--resume', trained, *options)
    checkpoint = load_from_local(str(tmp_path / 'iter_22.pth'))
    assert checkpoint['meta']['iter'] == 22


def test_amp_trains_in_bfloat16_on_a_cpu(tool, ade20k, tmp_path):
    options = tiny_ade20k(ade20k, **{'train_cfg.max_iters': '2'})
    tool('train', CONFIG, '--work-dir', tmp_path, '--amp', '--no-validate', *options)
    assert "type='toast_mm.BFloat16OptimWrapper'" in (tmp_path / Path(CONFIG).name).read_text()
    weights = load_from_local(str(tmp_path / 'iter_2.pth'))['state_dict']
    assert {t.dtype for t in weights.values() if t.is_floating_point()} == {torch.float32}


def test_auto_scale_lr(tool, ade20k, tmp_path):
    options = tiny_ade20k(ade20k, **{'train_cfg.max_iters': '2', 'param_scheduler': 'None'})
    tool('train', CONFIG, '--work-dir', tmp_path, '--auto-scale-lr', '--no-validate', *options)
    optimizer = load_from_local(str(tmp_path / 'iter_2.pth'))['optimizer']
    assert optimizer['param_groups'][0]['lr'] == pytest.approx(1e-2 * 2 / 16)  # batch 2 of 16


def test_a_pretuned_module_is_taken_by_one_argument(tool, ade20k, trained, tmp_path):
    options = tiny_ade20k(
        ade20k,
        **{
            'train_cfg.max_iters': '1',
            'model.backbone.pretuned': str(trained),
            'optim_wrapper.optimizer.lr': '0',
        },
    )
    tool('train', CONFIG, '--work-dir', tmp_path, '--no-validate', *options)
    given = load_from_local(str(trained))['state_dict']
    taken = load_from_local(str(tmp_path / 'iter_1.pth'))['state_dict']
    for name, tensor in taken.items():
        if '.topdown.' in name:
            assert torch.equal(tensor, given[name]), name
