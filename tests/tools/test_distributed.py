"""Two processes on a CPU, killed and resumed, and compared with one process."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from commands import ROOT, kill_tree, start, tiny_ade20k

from toast_mm.checkpoint import load_from_local

CONFIG = 'configs/ade20k_toast_upernet.py'


# Augmentation stays on: it depends on the draw, not on the process.
DETERMINISTIC = {
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


def launch(
    port: int,
    work_dir: Path,
    options: list[str],
    *arguments: str,
    processes: int = 2,
    config: str | Path = CONFIG,
    **environment: str,
):
    return start(
        *('bash', 'tools/dist_train.sh', config, str(processes), '--work-dir', work_dir),
        *(*arguments, *options),
        PORT=str(port),
        **environment,
    )


def finish(process) -> str:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output[-4000:]
    return output


def state(work_dir: Path, name: str) -> dict:
    return load_from_local(str(work_dir / f'{name}.pth'))


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
    wait_for_iteration(killed, process)
    kill_tree(process.pid)
    process.communicate()
    assert not (killed / 'iter_20.pth').exists(), 'it had finished before it was killed'

    output = finish(launch(unused_tcp_port, killed, options, '--resume'))
    assert 'resumed epoch: 0, iter: 10' in output
    expected, resumed = state(undisturbed, 'iter_20'), state(killed, 'iter_20')
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert same(expected[part], resumed[part]), part
    start_weights = state(undisturbed, 'iter_10')['state_dict']
    moved = [k for k, v in start_weights.items() if not torch.equal(v, expected['state_dict'][k])]
    assert any('topdown' in key for key in moved)
    assert not any(key.startswith('backbone.') and 'topdown' not in key for key in moved)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


def wait_for_iteration(work_dir: Path, process) -> None:
    """Wait until a training has reached iteration 10."""
    while not (work_dir / 'iter_10.pth').exists():
        assert process.poll() is None, process.stdout.read()[-4000:]
        time.sleep(0.005)


def long_job(data: Path) -> list[str]:
    settings = {'train_dataloader.num_workers': '1', 'train_cfg.max_iters': '100'}
    return tiny_ade20k(data, **settings, **{'train_cfg.val_interval': '100'})


@pytest.fixture(scope='module')
def undisturbed(ade20k, tmp_path_factory, unused_tcp_port_factory) -> dict:
    """What the long job ends with."""
    work_dir = tmp_path_factory.mktemp('undisturbed')
    finish(launch(unused_tcp_port_factory(), work_dir, long_job(ade20k)))
    return state(work_dir, 'iter_100')


@pytest.mark.slow
@pytest.mark.parametrize('event', ['SIGTERM', 'SIGTERM to all', 'launcher dies', 'rank dies'])
def test_a_training_in_two_processes_outlives(
    event, undisturbed, ade20k, tmp_path, unused_tcp_port
):
    """It saves or starts again by itself, and ends as an undisturbed one."""
    options, disturbed = long_job(ade20k), tmp_path
    again = dict(MAX_RESTARTS='1') if event in ('rank dies', 'SIGTERM to all') else {}
    process = launch(unused_tcp_port, disturbed, options, **again)
    wait_for_iteration(disturbed, process)
    ranks = children_of(process.pid)
    assert len(ranks) == 2
    if event == 'rank dies':
        os.kill(ranks[1], signal.SIGKILL)
        output = finish(process)
        assert re.search(r'resumed epoch: 0, iter: \d+0\b', output)
    else:
        if event == 'launcher dies':
            process.kill()
        elif event == 'SIGTERM':
            process.terminate()
        else:
            workers = [child for rank in ranks for child in children_of(rank)]
            assert workers  # which load data
            for pid in [process.pid, *ranks, *workers]:
                os.kill(pid, signal.SIGTERM)
        process.communicate(timeout=120)
        deadline = time.monotonic() + 30
        while any(Path(f'/proc/{rank}').exists() for rank in ranks):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert 10 <= state(disturbed, 'interrupted')['meta']['iter'] < 100
        finish(launch(unused_tcp_port, disturbed, options, '--resume'))
    reached = state(disturbed, 'iter_100')
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert same(undisturbed[part], reached[part]), part


@pytest.mark.slow
def test_two_nodes_go_on_after_a_rank_of_one_has_died(
    undisturbed, ade20k, tmp_path, unused_tcp_port
):
    """torchrun counts the restart on one of the nodes only. The folder holds another training."""
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_90.pth'))
    torch.save({'state_dict': {}, 'meta': {}}, tmp_path / 'iter_90.pth')
    os.utime(tmp_path / 'iter_90.pth', 2 * (time.time() - 3600,))
    options = long_job(ade20k)
    nodes = [
        launch(
            unused_tcp_port,
            tmp_path,
            options,
            processes=1,
            NNODES='2',
            NODE_RANK=str(rank),
            MAX_RESTARTS='1',
        )
        for rank in (0, 1)
    ]
    wait_for_iteration(tmp_path, nodes[0])
    (rank,) = children_of(nodes[1].pid)
    os.kill(rank, signal.SIGKILL)
    outputs = [finish(node) for node in nodes]
    assert re.search(r'resumed epoch: 0, iter: \d+0\b', ''.join(outputs))
    assert 'holds 1 checkpoints of another training' in ''.join(outputs)
    assert same(undisturbed['state_dict'], state(tmp_path, 'iter_100')['state_dict'])


def batch_of_four(ade20k: Path, processes: int, **changes: str) -> list[str]:
    """Options of a training whose processes share batches of four."""
    batch = {'train_dataloader.batch_size': str(4 // processes)}
    return tiny_ade20k(ade20k, **{**DETERMINISTIC, **batch, **changes})


def assert_close(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        torch.testing.assert_close(right[name], tensor, rtol=0, atol=1e-5, msg=name)


@pytest.fixture(scope='module')
def one_process(ade20k, tmp_path_factory, unused_tcp_port_factory) -> dict:
    """Weights of a training in one process."""
    work_dir = tmp_path_factory.mktemp('one')
    finish(launch(unused_tcp_port_factory(), work_dir, batch_of_four(ade20k, 1), processes=1))
    return state(work_dir, 'iter_10')['state_dict']


@pytest.fixture
def averaging(tmp_path) -> Path:
    """The config with averaged weights, and with a look at the attention in validations."""
    path = tmp_path / 'averaging.py'
    path.write_text(
        f"_base_ = '{ROOT / CONFIG}'\n"
        "_metric = dict(type='toast_mm.AttentionInside', classes=[0, 1, 2])\n"
        'val_evaluator = [_base_.val_evaluator, _metric]\n'
        "_hooks = [dict(type='EMAHook', momentum=0.3), dict(type='toast_mm.AttentionHook')]\n"
        "_hooks[1]['indices'] = [0, 1]\n"
        'custom_hooks = [*_base_.custom_hooks, *_hooks]\n'
    )
    return path


@pytest.mark.slow
@pytest.mark.parametrize('processes', [2, 4])
def test_several_processes_train_as_one_with_the_same_global_batch(
    ade20k, tmp_path, unused_tcp_port, one_process, processes
):
    options = batch_of_four(ade20k, processes)
    finish(launch(unused_tcp_port, tmp_path, options, processes=processes))
    assert_close(one_process, state(tmp_path, 'iter_10')['state_dict'])


@pytest.mark.slow
def test_two_processes_that_share_the_weights_train_as_one(
    ade20k, tmp_path, unused_tcp_port, one_process
):
    sharded = {'model_wrapper_cfg.type': 'toast_mm.FullyShardedDataParallel'}
    validation = {'train_cfg.val_interval': '5'}
    finish(launch(unused_tcp_port, tmp_path, batch_of_four(ade20k, 2, **sharded, **validation)))
    assert_close(one_process, state(tmp_path, 'iter_10')['state_dict'])


@pytest.mark.slow
def test_two_nodes_train_as_one_process(ade20k, tmp_path, unused_tcp_port, one_process):
    """Two launchers on loopback with a process each; the first node writes."""
    nodes = [
        launch(
            unused_tcp_port,
            tmp_path / str(rank),
            batch_of_four(ade20k, 2),
            processes=1,
            NNODES='2',
            NODE_RANK=str(rank),
        )
        for rank in (0, 1)
    ]
    for node in nodes:
        finish(node)
    assert_close(one_process, state(tmp_path / '0', 'iter_10')['state_dict'])
    assert not list(tmp_path.glob('1/*.pth'))


@pytest.mark.slow
def test_accumulated_gradients_and_averaged_weights_are_those_of_one_process(
    ade20k, tmp_path, unused_tcp_port, averaging, one_process
):
    runs, metrics = {}, {}
    for processes in (1, 2):
        changes = {'optim_wrapper.accumulative_counts': '2', 'train_cfg.val_interval': '10'}
        options = batch_of_four(ade20k, processes, **changes)
        work_dir = tmp_path / str(processes)
        training = launch(unused_tcp_port, work_dir, options, processes=processes, config=averaging)
        finish(training)
        runs[processes] = state(work_dir, 'iter_10')
        metrics[processes] = validated(work_dir)
    assert metrics[1].keys() > {'mIoU', 'attention_inside/first', 'attention_inside/second'}
    assert metrics[2] == pytest.approx(metrics[1], abs=0.02)
    averaged, latest = runs[1]['state_dict'], _without_wrapper(runs[1]['ema_state_dict'])
    assert_close(averaged, runs[2]['state_dict'])
    assert_close(latest, _without_wrapper(runs[2]['ema_state_dict']))
    tuned = [name for name, tensor in averaged.items() if not torch.equal(tensor, latest[name])]
    assert any('topdown' in name for name in tuned), 'the weights are not averaged'
    assert not all(torch.equal(tensor, one_process[name]) for name, tensor in latest.items())


def validated(work_dir: Path) -> dict[str, float]:
    """Metrics of the only validation, which has drawn its attention once."""
    assert len([*work_dir.glob('*/vis_data/vis_image/attention_*.png')]) == 1
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    (metrics,) = (line for line in map(json.loads, log.open()) if 'mIoU' in line)
    return {name: value for name, value in metrics.items() if 'time' not in name}


def _without_wrapper(ema: dict) -> dict:
    """The weights of mmengine's averaged model under their names in the model."""
    return {name.removeprefix('module.'): t for name, t in ema.items() if name != 'steps'}


@pytest.mark.slow
def test_half_precision_accumulation_and_averages_resume_bit_for_bit(
    ade20k, tmp_path, unused_tcp_port, averaging
):
    """From the checkpoint after ten of twenty iterations, in two processes."""
    settings = {'optim_wrapper.accumulative_counts': '2', 'model.backbone.drop_path_rate': '0.3'}
    options = tiny_ade20k(ade20k, **settings, **{'train_cfg.val_interval': '100'})
    undisturbed, resumed = tmp_path / 'undisturbed', tmp_path / 'resumed'
    finish(launch(unused_tcp_port, undisturbed, options, '--amp', config=averaging))
    resumed.mkdir()
    shutil.copy(undisturbed / 'iter_10.pth', resumed)
    output = finish(
        launch(unused_tcp_port, resumed, options, '--amp', '--resume', config=averaging)
    )
    assert 'resumed epoch: 0, iter: 10' in output
    expected, found = state(undisturbed, 'iter_20'), state(resumed, 'iter_20')
    for part in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
        assert same(expected[part], found[part]), part
    assert not same(expected['state_dict'], state(undisturbed, 'iter_10')['state_dict'])
