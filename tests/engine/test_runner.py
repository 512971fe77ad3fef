import atexit
import copy
import os
import runpy
import shutil
from multiprocessing import active_children
from pathlib import Path

import mmengine.runner
import pytest
import torch
from canary import code
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from torch import nn

from toast_mm.checkpoint import CheckpointError
from toast_mm.engine import Runner, optim
from toast_mm.engine.resumption import latest_checkpoint
from toast_mm.files import WriteError


class InterruptHook(Hook):
    """Ctrl-C before an iteration."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def before_train_iter(self, runner, *args, **kwargs) -> None:
        if runner.iter == self.iteration:
            raise KeyboardInterrupt


def train(cfg) -> Runner:
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def load(path) -> dict:
    return torch.load(path, weights_only=True)


def assert_same(one, other) -> None:
    """Assert that two values are equal bit for bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for each in zip(one, other, strict=True):
            assert_same(*each)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def assert_same_training(work_dirs, name: str) -> None:
    """Weights, optimizer, schedules, logged losses and seed of a checkpoint of two runs."""
    one, other = (load(folder / name) for folder in work_dirs)
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_same(one[part], other[part])
    for key in ('epoch', 'iter', 'seed'):
        assert one['meta'][key] == other['meta'][key]
    losses = [part['message_hub']['log_scalars']['train/loss'].data[0] for part in (one, other)]
    assert losses[0].tolist() == losses[1].tolist()
    assert len(losses[0]) == one['meta']['iter']


class TestResume:
    @pytest.mark.parametrize('seed', [3, None])
    @pytest.mark.parametrize('num_workers', [0, 1])
    @pytest.mark.parametrize(
        ('by_epoch', 'start', 'end'),
        [(False, 'iter_5.pth', 'iter_9.pth'), (True, 'epoch_1.pth', 'epoch_3.pth')],
    )
    def test_goes_on_as_uninterrupted(
        self, toy_config, tmp_path, by_epoch, start, end, num_workers, seed
    ):
        """After iteration 5, which has no validation, or after an epoch."""
        settings = dict(by_epoch=by_epoch, num_workers=num_workers, randomness__seed=seed)
        whole, resumed = tmp_path / 'whole', tmp_path / 'resumed'
        train(toy_config(whole, **settings))
        resumed.mkdir()
        shutil.copy(whole / start, resumed)
        runner = train(toy_config(resumed, resume=True, **settings))
        assert runner.seed == load(whole / end)['meta']['seed']
        assert_same_training((whole, resumed), end)
        assert not torch.equal(
            load(whole / start)['state_dict']['head.weight'], runner.model.head.weight
        )

    def test_after_an_interruption(self, toy_config, tmp_path):
        whole, broken = tmp_path / 'whole', tmp_path / 'broken'
        train(toy_config(whole))
        runner = Runner.from_cfg(toy_config(broken))
        runner.register_hook(InterruptHook(7))
        with pytest.raises(KeyboardInterrupt):
            runner.train()
        assert not (broken / 'iter_9.pth').exists()
        train(toy_config(broken, resume=True))
        assert_same_training((whole, broken), 'iter_9.pth')

    def test_from_a_named_checkpoint(self, toy_config, tmp_path):
        train(toy_config(tmp_path / 'whole'))
        start = str(tmp_path / 'whole' / 'iter_5.pth')
        runner = train(toy_config(tmp_path / 'other', resume=True, load_from=start))
        assert runner.model.seen == list(range(10, 18))
        assert_same_training((tmp_path / 'whole', tmp_path / 'other'), 'iter_9.pth')

    @pytest.mark.parametrize('runner_type', [Runner, mmengine.runner.Runner])
    @pytest.mark.parametrize('automatic', [True, False])
    def test_runs_no_code_of_the_checkpoint(self, toy_config, tmp_path, runner_type, automatic):
        """mmengine runs a config in this key to get the number of GPUs."""
        train(toy_config(tmp_path / 'a'))
        checkpoint = load(tmp_path / 'a' / 'iter_5.pth')
        checkpoint['meta']['config'] = code(tmp_path / 'mark')
        torch.save(checkpoint, tmp_path / 'iter_5.pth')
        (tmp_path / 'b').mkdir()
        (tmp_path / 'b' / 'last_checkpoint').write_text(str(tmp_path / 'iter_5.pth'))
        cfg = toy_config(tmp_path / 'b', resume=True)
        cfg.load_from = None if automatic else str(tmp_path / 'iter_5.pth')
        runner = runner_type.from_cfg(cfg)
        runner.train()
        assert not (tmp_path / 'mark').exists()
        assert len(runner.model.seen) == 2 * (9 - 5)

        checkpoint['meta']['config'] = 'gpu_ids = range(0, 8)\n' + code(tmp_path / 'mark')
        torch.save(checkpoint, tmp_path / 'iter_5.pth')
        (tmp_path / 'b' / 'last_checkpoint').write_text(str(tmp_path / 'iter_5.pth'))
        with pytest.raises(RuntimeError, match='Number of GPUs used for current experiment'):
            runner_type.from_cfg(cfg).train()
        assert not (tmp_path / 'mark').exists()

    @pytest.mark.parametrize('seed', [3, None])
    def test_another_run_is_another_run(self, toy_config, tmp_path, seed):
        """Different seeds must give different runs, or the equalities here would mean nothing."""
        for name, other in (('a', seed), ('b', seed and seed + 1)):
            train(toy_config(tmp_path / name, randomness__seed=other))
        weights = [load(tmp_path / name / 'iter_9.pth')['state_dict'] for name in 'ab']
        assert not torch.equal(weights[0]['head.weight'], weights[1]['head.weight'])

    def test_nothing_to_resume(self, toy_config, tmp_path, capsys):
        runner = train(toy_config(tmp_path, resume=True))
        assert runner.model.seen == list(range(18))
        assert f'no checkpoint to resume in {tmp_path}: starting anew' in capsys.readouterr().out

    def test_config_stays_as_it_is(self, toy_config, tmp_path):
        train(toy_config(tmp_path))
        cfg = toy_config(tmp_path, resume=True, randomness__seed=None)
        before = copy.deepcopy(cfg.to_dict())
        Runner.from_cfg(cfg)
        assert cfg.to_dict() == before

    @pytest.mark.parametrize('name', ['weights.pth', 'best_toy_error_iter_3.pth'])
    def test_weights_alone(self, toy_config, toy_weights, tmp_path, name):
        """mmengine's best checkpoints have no optimizer state: it would start from zero."""
        train(
            toy_config(
                tmp_path,
                default_hooks__checkpoint__save_best='toy/error',
                default_hooks__checkpoint__rule='less',
                train_cfg__max_iters=3,
            )
        )
        torch.save(toy_weights, tmp_path / 'weights.pth')
        file = tmp_path / name
        with pytest.raises(CheckpointError) as info:
            train(toy_config(tmp_path, resume=True, load_from=str(file)))
        assert str(info.value) == (
            f'{file} holds weights without the state of a training and cannot be resumed; '
            f'to start from these weights use --cfg-options load_from={file}, '
            'and another --work-dir'
        )

    def test_missing_key(self, toy_config, tmp_path):
        train(toy_config(tmp_path, train_cfg__max_iters=5))
        checkpoint = load(tmp_path / 'iter_5.pth')
        del checkpoint['state_dict']['head.bias']
        torch.save(checkpoint, tmp_path / 'iter_5.pth')
        with pytest.raises(
            CheckpointError, match=r'iter_5\.pth: .*(\n.*)*missing keys.*head\.bias'
        ):
            train(toy_config(tmp_path, resume=True))


class TestSaving:
    def fail_from(self, number: int, monkeypatch) -> None:
        """The disk is full in the middle of a file."""
        put, count = LocalBackend.put, iter(range(100))

        def half(self, content, filepath):
            if next(count) < number:
                return put(self, content, filepath)
            put(self, content[: len(content) // 2], filepath)
            raise OSError(28, 'No space left on device')

        monkeypatch.setattr(LocalBackend, 'put', half)

    def test_failure_in_the_middle_of_a_file(self, toy_config, tmp_path, monkeypatch):
        whole, broken = tmp_path / 'whole', tmp_path / 'broken'
        train(toy_config(whole))
        with monkeypatch.context() as patch:
            self.fail_from(2, patch)  # behind iter_5.pth and last_checkpoint
            with pytest.raises(WriteError, match=r'/iter_9\.pth cannot be .*No space left'):
                train(toy_config(broken))
        assert [path.name for path in broken.glob('*.pth')] == ['iter_5.pth']
        assert latest_checkpoint(str(broken)) == str(broken / 'iter_5.pth')
        train(toy_config(broken, resume=True))
        assert_same_training((whole, broken), 'iter_9.pth')
        assert not list(broken.glob('*partial*'))

    def test_failure_while_replacing(self, toy_config, tmp_path, monkeypatch):
        """Saving iteration 3 again, as mmengine does for a new best score, risks nothing."""
        settings = dict(
            train_cfg__max_iters=3,
            default_hooks__checkpoint__save_best='toy/error',
            default_hooks__checkpoint__rule='less',
        )
        self.fail_from(3, monkeypatch)  # behind iter_3.pth, last_checkpoint, the best one
        with pytest.raises(WriteError, match=r'/iter_3\.pth cannot be .*No space left'):
            train(toy_config(tmp_path, **settings))
        assert not list(tmp_path.rglob('*partial*'))
        assert {path.name for path in tmp_path.glob('*.pth')} == {
            'iter_3.pth',
            'best_toy_error_iter_3.pth',
        }
        assert load(tmp_path / 'iter_3.pth')['meta']['iter'] == 3

    def test_nothing_else_is_left(self, toy_config, tmp_path):
        train(toy_config(tmp_path))
        assert {path.name for path in tmp_path.glob('*.p*')} >= {'iter_5.pth', 'iter_9.pth'}
        assert not list(tmp_path.rglob('*partial*'))
        assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_9.pth')


class TestLatestCheckpoint:
    @pytest.fixture
    def folder(self, tmp_path):
        for name in (
            'iter_200.pth',
            'iter_1000.pth',
            'iter_1100.partial.pth',
            'best_iter_9999.pth',
        ):
            (tmp_path / name).touch()
        return tmp_path

    def test_pointer(self, folder):
        """It is used even if an older training has a higher number."""
        (folder / 'last_checkpoint').write_text(f'{folder}/iter_200.pth\n')
        assert latest_checkpoint(str(folder)) == f'{folder}/iter_200.pth'

    def test_moved_folder(self, folder):
        (folder / 'last_checkpoint').write_text('/nowhere/work_dirs/a/iter_200.pth')
        assert latest_checkpoint(str(folder)) == f'{folder}/iter_200.pth'

    @pytest.mark.parametrize('pointer', [None, '', '\n', 'iter_9.pth', '/nowhere/iter_1100.pth'])
    def test_no_pointer_or_a_wrong_one(self, folder, pointer):
        """The one with the highest number, compared as numbers and not as names."""
        if pointer is not None:
            (folder / 'last_checkpoint').write_text(pointer)
        assert latest_checkpoint(str(folder)) == f'{folder}/iter_1000.pth'

    def test_epochs(self, tmp_path):
        for name in ('epoch_9.pth', 'epoch_10.pth', 'epoch_11.partial.pth', 'epoch_x.pth'):
            (tmp_path / name).touch()
        assert latest_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_10.pth')

    def test_nothing_there(self, tmp_path):
        assert latest_checkpoint(str(tmp_path / 'none')) is None
        (tmp_path / 'iter_5.partial.pth').touch()
        (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_5.pth'))
        assert latest_checkpoint(str(tmp_path)) is None


class TestLoading:
    def test_test_measures_the_checkpoint(self, toy_config, toy_weights, tmp_path):
        torch.save(dict(state_dict=toy_weights), tmp_path / 'weights.pth')
        cfg = toy_config(tmp_path, load_from=str(tmp_path / 'weights.pth'), resume=True)
        metrics = Runner.from_cfg(cfg).test()  # resume is for training
        assert metrics['toy/error'] == pytest.approx((2 + 1 + 0 + 1 + 2 + 3 + 4) / 7)

    def test_test_after_training(self, toy_config, tmp_path):
        """Tests the trained model, not the checkpoint that the training started from."""
        runner = train(toy_config(tmp_path))
        with torch.no_grad():
            runner.model.head.weight.zero_(), runner.model.head.bias.fill_(6)
        assert runner.test()['toy/error'] == pytest.approx((6 + 5 + 4 + 3 + 2 + 1 + 0) / 7)

    @pytest.mark.parametrize(
        ('change', 'sentence'),
        [
            (lambda weights: weights.pop('head.weight'), 'missing keys.*: head.weight'),
            (lambda weights: weights.update(neck=torch.zeros(1)), 'unexpected key.*: neck'),
            (
                lambda weights: weights.update({'head.bias': torch.zeros(2)}),
                'size mismatch.*head.bias',
            ),
        ],
        ids=['missing', 'unexpected', 'shape'],
    )
    def test_strict_in_tests_tolerant_in_training(
        self, toy_config, toy_weights, tmp_path, capsys, change, sentence
    ):
        change(toy_weights)
        file = tmp_path / 'weights.pth'
        torch.save(toy_weights, file)
        with pytest.raises(CheckpointError, match=rf'^{file}: (.*\n)*.*{sentence}'):
            Runner.from_cfg(toy_config(tmp_path, load_from=str(file), resume=True)).test()
        assert 'do not match' not in capsys.readouterr().out

        runner = train(toy_config(tmp_path, load_from=str(file), train_cfg__max_iters=1))
        assert torch.equal(runner.model.backbone[0].weight, toy_weights['backbone.0.weight'])
        assert sentence.split('.*')[0] in capsys.readouterr().out

    def test_foreign_objects_are_not_executed(self, toy_config, tmp_path):
        class Proof:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / 'proof'),)

        file = tmp_path / 'evil.pth'
        torch.save(dict(state_dict={}, meta=Proof()), file)
        for settings in (dict(), dict(resume=True), dict(resume=True, randomness__seed=None)):
            with pytest.raises(CheckpointError, match=r'evil\.pth is refused'):
                train(toy_config(tmp_path, load_from=str(file), **settings))
        assert not (tmp_path / 'proof').exists()

    def test_errors_name_the_file_once(self, toy_config, tmp_path):
        file = tmp_path / 'cut.pth'
        file.write_bytes(b'PK')
        with pytest.raises(CheckpointError) as info:
            Runner.from_cfg(toy_config(tmp_path, load_from=str(file))).test()
        assert str(info.value).count(str(file)) == 1

    def test_less_than_the_backbone(self, toy_config, tmp_path):
        """A start from other weights is tolerant, but not with a frozen backbone."""
        backbone = dict(
            type='toast_mm.TOASTViT',
            arch=dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16),
            img_size=16,
            patch_size=8,
        )
        cfg = toy_config(
            tmp_path, model=dict(type='ImageClassifier', backbone=backbone, _scope_='mmpretrain')
        )
        runner = Runner.from_cfg(cfg)
        weights = runner.model.state_dict()
        file = tmp_path / 'weights.pth'
        torch.save({name: weights[name] for name in weights if 'topdown' not in name}, file)
        runner.load_checkpoint(str(file))
        del weights['backbone.cls_token']
        torch.save(weights, file)
        with pytest.raises(CheckpointError, match=rf'^{file}: .* missing: backbone\.cls_token$'):
            runner.load_checkpoint(str(file))


class TestBuilding:
    def test_runner_type(self, toy_config, tmp_path):
        runner = RUNNERS.build(toy_config(tmp_path, runner_type='toast_mm.Runner'))
        assert type(runner) is Runner

    def test_sync_batchnorm_is_reverted(self, toy_config, tmp_path):
        model = Runner.from_cfg(toy_config(tmp_path)).model
        assert not any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())

    @pytest.mark.parametrize(
        ('fp16', 'has_bfloat16', 'dtype'),
        [
            (True, True, torch.bfloat16),
            (True, False, torch.float32),
            (False, True, torch.float32),
        ],
    )
    def test_fp16_of_validation_and_test_on_a_cpu(
        self, toy_config, tmp_path, monkeypatch, fp16, has_bfloat16, dtype
    ):
        monkeypatch.setattr(optim, '_processor_has_bfloat16', lambda: has_bfloat16)
        cfg = toy_config(tmp_path, val_cfg=dict(fp16=fp16), test_cfg=dict(fp16=fp16))
        runner = Runner.from_cfg(cfg)
        dtypes = []
        runner.model.head.register_forward_hook(lambda *call: dtypes.append(call[-1].dtype))
        runner.val()
        runner.test()
        assert len(dtypes) == 8 and set(dtypes) == {dtype}

    @pytest.mark.parametrize('channels_last', [False, True])
    def test_channels_last_before_ddp_notes_the_order(self, toy_config, tmp_path, channels_last):
        cfg = toy_config(tmp_path, channels_last=channels_last)
        convolution = nn.Conv2d(2, 2, 3)
        Runner.from_cfg(cfg).wrap_model(None, convolution)
        assert convolution.weight.is_contiguous() is not channels_last

    @pytest.mark.parametrize('part', ['train', 'val', 'test'])
    @pytest.mark.parametrize('wrapped', [False, True])
    @pytest.mark.parametrize('serialize_data', [False, True])
    def test_empty_data_set(self, toy_config, tmp_path, part, wrapped, serialize_data):
        dataset = dict(
            type='toast_mm.ToyDataset',
            size=0,
            serialize_data=serialize_data,
            data_root='data/toy',
            ann_file='lists/a.txt',
            data_prefix=dict(img_path='images'),
            test_mode=part != 'train',
        )
        where = (
            "toast_mm.ToyDataset(data_root='data/toy', data_prefix={'img_path': 'images'}, "
            "ann_file='lists/a.txt')"
        )
        if wrapped:
            dataset = dict(type='ConcatDataset', datasets=[dataset, dataset])
            dataset, where = (
                dict(type='RepeatDataset', times=2, dataset=dataset),
                f'{where}, {where}',
            )
        cfg = toy_config(tmp_path)
        cfg[f'{part}_dataloader'].dataset = dataset
        runner = Runner.from_cfg(cfg)
        with pytest.raises(ValueError) as info:
            runner.test() if part == 'test' else runner.train()
        assert str(info.value) == f'the data set is empty: {where} finds no sample'


def train_process(rank: int, port: int, work_dir: Path) -> None:
    """One of two processes, as torchrun starts them."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(port), TORCHELASTIC_USE_AGENT_STORE='True', TORCHELASTIC_RESTART_COUNT='0',
    )  # fmt: skip
    group_file = work_dir / f'group{rank}.txt'  # written behind what the runner does at exit
    atexit.register(lambda: group_file.write_text(str(torch.distributed.is_initialized())))
    toy_config = runpy.run_path(str(Path(__file__).with_name('conftest.py')))['toy_config']
    runner = train(toy_config(work_dir, **DISTRIBUTED, launcher='pytorch'))
    torch.save(
        dict(
            rank=(runner.rank, runner.world_size, torch.distributed.get_backend()),
            wrapper=type(runner.model).__name__,
            norm=type(runner.model.module.backbone[1]).__name__,
            weights=runner.model.module.state_dict(),
            seen=runner.model.module.seen,
            find_unused_parameters=runner.model.find_unused_parameters,
            broadcast_buffers=runner.model.broadcast_buffers,
        ),
        work_dir / f'rank{rank}.pt',
    )


DISTRIBUTED = dict(
    model__dropout=0.0,
    optim_wrapper__optimizer=dict(type='SGD', lr=0.05),
    find_unused_parameters=True,
)


@pytest.mark.slow
def test_two_processes_train_as_one(toy_config, tmp_path, monkeypatch):
    """On a machine without a GPU. One test: what costs time is the start of the processes."""
    folder = tmp_path / 'two'
    folder.mkdir()
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    # A port that is looked for now and taken later may be another's by then.
    store = torch.distributed.TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    torch.multiprocessing.spawn(train_process, (store.port, folder), nprocs=2)
    processes = [load(folder / f'rank{rank}.pt') for rank in (0, 1)]
    for rank, process in enumerate(processes):
        assert process['rank'] == (rank, 2, 'gloo')
        assert process['wrapper'] == 'MMDistributedDataParallel'
        assert 'Sync' not in process['norm'] and 'BatchNorm' in process['norm']
        assert process['find_unused_parameters'] and not process['broadcast_buffers']
        # A process that does not leave its group aborts at exit, one time in ten.
        assert (folder / f'group{rank}.txt').read_text() == 'False'

    # Together they draw one stream, and equal one process with the whole batch.
    assert [process['seen'] for process in processes] == [[*range(0, 36, 2)], [*range(1, 36, 2)]]
    runner = train(toy_config(tmp_path / 'one', **DISTRIBUTED, train_dataloader__batch_size=4))
    assert runner.model.seen == list(range(36))
    for name, expected in runner.model.state_dict().items():
        assert torch.equal(processes[0]['weights'][name], processes[1]['weights'][name])
        torch.testing.assert_close(processes[0]['weights'][name], expected, rtol=0, atol=1e-6)

    # One of them saves.
    assert_same(load(folder / 'iter_9.pth')['state_dict'], processes[0]['weights'])
    assert not list(folder.rglob('*partial*'))


@pytest.mark.parametrize('by_epoch', [True, False])
def test_processes_that_load_data_end_with_the_training(toy_config, tmp_path, by_epoch):
    """Left to the garbage collector, PyTorch would wait 5 seconds for those of each loader."""
    runner = train(toy_config(tmp_path, by_epoch=by_epoch, num_workers=1))
    assert runner.train_dataloader.persistent_workers
    assert not active_children()
    runner.val()  # starts others
    (child,) = active_children()
    runner.val_dataloader._iterator._shutdown_workers()
    assert not child.is_alive()


@pytest.mark.parametrize('by_epoch', [True, False])
def test_processes_that_load_data_end_with_an_error(toy_config, tmp_path, by_epoch):
    cfg = toy_config(tmp_path, by_epoch=by_epoch, num_workers=1)
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type=InterruptHook, iteration=2)]
    runner = Runner.from_cfg(cfg)
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    assert not active_children()
