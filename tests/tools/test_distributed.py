"""Two processes on a CPU, killed and resumed, and compared with one process."""

import time
from pathlib import Path

import pytest
import torch
from commands import kill_tree, start, tiny_ade20k

from toast_mm.checkpoint import load_from_local

CONFIG = 'configs/ade20k_toast_upernet.py'


def launch(port: int, work_dir: Path, options: list[str], *arguments: str, processes: int = 2):
    return start(
        *('bash', 'tools/dist_train.sh', CONFIG, str(processes), '--work-dir', work_dir),
        *(*arguments, *options),
        PORT=str(port),
    )


def finish(process) -> str:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output[-4000:]
    return output


def state(work_dir: Path, iteration: int) -> dict:
    return load_from_local(str(work_dir / f'iter_{iteration}.pth'))


def same(left, right) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@pytest.mark.slow
def test_killed_and_resumed_training_ends_bit_for_bit_as_an_undisturbed_one(
    ade20k, tmp_path, unused_tcp_port
):
    settings = {'model.backbone.drop_path_rate': '0.3', 'train_dataloader.num_workers': '1'}
    options = tiny_ade20k(ade20k, **settings)
    undisturbed, killed = tmp_path / 'undisturbed', tmp_path / 'killed'
    finish(launch(unused_tcp_port, undisturbed, options))

    process = launch(unused_tcp_port, killed, options)
    while not (killed / 'iter_10.pth').exists():
        assert process.poll() is None, process.stdout.read()[-4000:]
        time.sleep(0.005)
    kill_tree(process.pid)
    process.communicate()
    assert not (killed / 'iter_20.pth').exists(), 'it had finished before it was killed'

    output = finish(launch(unused_tcp_port, killed, options, '--resume'))
    assert 'resumed epoch: 0, iter: 10' in output
    expected, resumed = state(undisturbed, 20), state(killed, 20)
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert same(expected[part], resumed[part]), part
    start_weights = state(undisturbed, 10)['state_dict']
    moved = [k for k, v in start_weights.items() if not torch.equal(v, expected['state_dict'][k])]
    assert any('topdown' in key for key in moved)
    assert not any(key.startswith('backbone.') and 'topdown' not in key for key in moved)


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_same_global_batch(ade20k, tmp_path, unused_tcp_port):
    # Augmentation stays on: it depends on the draw, not on the process.
    deterministic = {
        'model.decode_head.norm_cfg.type': 'GN',
        'model.decode_head.norm_cfg.num_groups': '2',
        'model.auxiliary_head.norm_cfg.type': 'GN',
        'model.auxiliary_head.norm_cfg.num_groups': '2',
        'model.decode_head.dropout_ratio': '0',
        'model.auxiliary_head.dropout_ratio': '0',
        'model.backbone.drop_path_rate': '0',
        'train_cfg.max_iters': '10',
        'train_cfg.val_interval': '100',
    }
    runs = {}
    for processes in (1, 2):
        batch = {'train_dataloader.batch_size': str(4 // processes)}
        work_dir = tmp_path / str(processes)
        options = tiny_ade20k(ade20k, **deterministic, **batch)
        finish(launch(unused_tcp_port, work_dir, options, processes=processes))
        runs[processes] = state(work_dir, 10)['state_dict']
    for name, tensor in runs[1].items():
        torch.testing.assert_close(runs[2][name], tensor, rtol=0, atol=1e-5, msg=name)
