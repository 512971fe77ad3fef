"""A training that gets a signal saves, leaves, and ends as an undisturbed one when resumed."""

import multiprocessing
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from toast_mm.checkpoint import load_from_local
from toast_mm.engine import Runner
from toast_mm.engine.hooks import Preempted, PreemptionHook
from toast_mm.engine.runner import _leave_process_group


class SendSignal(Hook):
    """Send a signal to this process in an iteration, as a scheduler does."""

    def __init__(self, iteration: int, number: int = signal.SIGTERM) -> None:
        self.iteration, self.number = iteration, number

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if runner.iter == self.iteration:
            os.kill(os.getpid(), self.number)


def train(cfg, *hooks, resume=False):
    cfg.resume = resume
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner


def interrupt(cfg, iteration, number=signal.SIGTERM, saved=True) -> None:
    with pytest.raises(Preempted, match=signal.Signals(number).name) as left:
        train(cfg, SendSignal(iteration, number))
    assert left.value.status == (128 + number if saved else 1)


@pytest.mark.parametrize(
    ('by_epoch', 'iteration', 'accumulate'),
    [(False, 0, 1), (False, 6, 3), (True, 0, 1), (True, 5, 3), (True, 7, 1), (True, 11, 1)],
)
@pytest.mark.filterwarnings('ignore:Detected call of `scheduler.step')  # of mmengine's schedulers
def test_a_resumed_training_ends_bit_for_bit(toy_config, tmp_path, by_epoch, iteration, accumulate):
    changes = dict(by_epoch=by_epoch, optim_wrapper__accumulative_counts=accumulate)
    undisturbed = train(toy_config(tmp_path / 'whole', **changes))
    cfg = toy_config(tmp_path / 'parts', **changes)
    interrupt(cfg, iteration)
    saved = load_from_local(str(tmp_path / 'parts/interrupted.pth'))
    assert saved['meta']['iter'] == iteration + 1
    resumed = train(toy_config(tmp_path / 'parts', **changes), resume=True)
    assert resumed.iter == undisturbed.iter
    name = 'epoch_3.pth' if by_epoch else 'iter_9.pth'
    one, other = (load_from_local(str(tmp_path / part / name)) for part in ('whole', 'parts'))
    for key, tensor in one['state_dict'].items():
        assert torch.equal(tensor, other['state_dict'][key]), key
    assert one['param_schedulers'] == other['param_schedulers']
    assert not (tmp_path / 'parts/interrupted.pth').exists()  # a regular one came after it


def test_twice_in_one_epoch(toy_config, tmp_path):
    train(toy_config(tmp_path / 'whole', by_epoch=True))
    for iteration, resume in ((4, False), (6, True)):
        cfg = toy_config(tmp_path / 'parts', by_epoch=True)
        with pytest.raises(Preempted):
            train(cfg, SendSignal(iteration, signal.SIGUSR1), resume=resume)
    train(toy_config(tmp_path / 'parts', by_epoch=True), resume=True)
    one, other = (
        load_from_local(str(tmp_path / part / 'epoch_3.pth'))['state_dict']
        for part in ('whole', 'parts')
    )
    assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())


@pytest.mark.parametrize('then', ['before_train_iter', 'before_save_checkpoint'])
def test_further_signals_change_nothing(toy_config, tmp_path, then):
    """A launcher passes on what the scheduler has sent to its processes as well."""

    class SendMore(SendSignal):
        def send(self, runner, *args, **kwargs) -> None:
            if runner.iter == self.iteration:
                os.kill(os.getpid(), self.number)
                os.kill(os.getpid(), signal.SIGUSR1)

    setattr(SendMore, then, SendMore.send)
    with pytest.raises(Preempted):
        train(toy_config(tmp_path), SendSignal(5), SendMore(5))
    saved = load_from_local(str(tmp_path / 'interrupted.pth'))
    assert saved['meta']['iter'] == 6


def test_a_loading_process_outlives_a_scheduler_but_not_its_training(toy_config, tmp_path):
    class SendToWorkers(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
            if runner.iter == 3:
                self.workers = multiprocessing.active_children()
                for worker in self.workers:
                    subprocess.run(['kill', '-TERM', str(worker.pid)], check=True)

    sending = SendToWorkers()
    assert train(toy_config(tmp_path, num_workers=2), sending).iter == 9
    assert len(sending.workers) >= 2
    for worker in sending.workers:
        worker.terminate()
        worker.join(30)
        assert worker.exitcode == 0


def test_a_hook_that_left_can_train_again(toy_config, tmp_path):
    first, second = (Runner.from_cfg(toy_config(tmp_path / name)) for name in ('one', 'other'))
    first.register_hook(SendSignal(4))
    with pytest.raises(Preempted):
        first.train()
    (hook,) = (hook for hook in first.hooks if isinstance(hook, PreemptionHook))
    second._hooks = [h if not isinstance(h, PreemptionHook) else hook for h in second.hooks]
    second.train()
    assert second.iter == 9 and signal.getsignal(signal.SIGTERM) != hook._note


def test_the_signal_goes_back_to_who_had_it(toy_config, tmp_path):
    got = []
    former = signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
    try:
        mine = signal.getsignal(signal.SIGUSR1)
        train(toy_config(tmp_path / 'whole'))
        assert signal.getsignal(signal.SIGUSR1) is mine
        interrupt(toy_config(tmp_path / 'left'), 2, signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) is mine

        class Fails(Hook):
            def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
                raise RuntimeError('fails')

        with pytest.raises(RuntimeError, match='fails'):
            train(toy_config(tmp_path / 'failed'), Fails())
        assert signal.getsignal(signal.SIGUSR1) is mine
        assert not got
    finally:
        signal.signal(signal.SIGUSR1, former)


@pytest.mark.parametrize(('iteration', 'saved'), [(5, True), (1, False)])
def test_a_foreign_sampler_saves_nothing_in_an_epoch(toy_config, tmp_path, iteration, saved):
    """Starting again is of no use if there was no epoch since the start; here others have saved."""
    cfg = toy_config(tmp_path, by_epoch=True)
    cfg.train_dataloader.sampler.type = 'mmengine.DefaultSampler'
    cfg.train_dataloader.dataset.pipeline = cfg.train_dataloader.dataset.pipeline[1:]
    cfg.custom_hooks = []
    (tmp_path / 'epoch_9.pth').touch()
    (tmp_path / 'last_checkpoint').write_text('epoch_9.pth')
    interrupt(cfg, iteration, saved=saved)
    (log,) = tmp_path.glob('*/*.log')
    assert 'nothing is saved, since DefaultSampler cannot resume in the middle' in log.read_text()
    assert ('there is no other checkpoint since the start' in log.read_text()) is not saved
    assert not (tmp_path / 'interrupted.pth').exists()
    name = 'epoch_1.pth' if saved else 'epoch_9.pth'
    assert (tmp_path / 'last_checkpoint').read_text().endswith(name)


def test_other_threads_train_without_it(toy_config, tmp_path):
    thread = threading.Thread(target=train, args=[toy_config(tmp_path)])
    thread.start()
    thread.join()
    assert (tmp_path / 'iter_9.pth').exists()


def test_no_such_signal():
    with pytest.raises(ValueError, match="signals='SIGNONE' is no signal of this system"):
        PreemptionHook(['SIGNONE'])


class SaveSlowly(Hook):
    """Take a second for saving, which only process 0 does."""

    def before_save_checkpoint(self, runner, checkpoint) -> None:
        time.sleep(1)


def leave_as_one_of_two(rank: int, folder: str) -> None:
    """Train in one of two processes. Process 1 gets a signal."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', LOCAL_WORLD_SIZE='2')
    store = f'file://{folder}/store'
    torch.distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
    runner = Runner.from_cfg(Config.fromfile(f'{folder}/config.py'))
    for hook in (SaveSlowly(), SendSignal(2 if rank else -1, signal.SIGUSR1)):
        runner.register_hook(hook)
    try:
        runner.train()
    except Preempted as left:
        saved = Path(folder, 'run', 'interrupted.pth').exists()
        Path(folder, f'left_{rank}').write_text(f'{left.status} {saved}')
    del runner
    _leave_process_group()


@pytest.mark.slow
def test_all_processes_leave_when_the_first_one_has_saved(steered_config, tmp_path, monkeypatch):
    """Slurm and torchrun end the others as soon as one has left."""
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    cfg = steered_config(tmp_path / 'run', train_cfg__max_iters=9)
    cfg.launcher = 'pytorch'
    cfg.custom_imports = dict(imports=['toast_mm', 'toy_images'])
    cfg.dump(tmp_path / 'config.py')
    torch.multiprocessing.spawn(leave_as_one_of_two, (str(tmp_path),), nprocs=2)
    assert [(tmp_path / f'left_{rank}').read_text() for rank in (0, 1)] == 2 * ['138 True']
