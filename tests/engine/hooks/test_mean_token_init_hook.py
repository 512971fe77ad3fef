import shutil

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from toy_images import Spy, read_out

from toast_mm.engine import MeanTokenInitHook
from toast_mm.seeding import seed_everything

ROUTES = [('last', 'first'), ('middle', 'first'), (3, 1)]


def hook(**kwargs) -> dict:
    return dict(type='toast_mm.MeanTokenInitHook', **kwargs)


def mean_token(runner, numbers, **kwargs):
    backbone = getattr(runner.model, 'module', runner.model).backbone
    return read_out(backbone, numbers, **kwargs).mean((0, 1))


@pytest.mark.parametrize(('source', 'target'), ROUTES)
def test_is_the_mean_of_the_tokens_that_are_selected_from(
    steered_config, run, spy, tmp_path, capsys, source, target
):
    backbone = dict(feedback_from=source, feedback_to=target)
    runner = run(
        steered_config(tmp_path, hook(num_batches=2), backbone=backbone, log_level='INFO'), spy
    )
    expected = mean_token(runner, [0, 2, 4, 6])
    torch.testing.assert_close(spy.embeddings[0], expected)
    assert expected.norm() > 0.1
    assert not torch.equal(spy.embeddings[2], spy.embeddings[0])  # it trains
    message = 'The task embedding is the mean of 20 tokens of 4 images'
    assert message in capsys.readouterr().out


@pytest.mark.parametrize(
    ('num_batches', 'numbers'),
    [
        (1, [0, 6]),
        (3, [0, 1, 2, 3, 4, 6]),
        (None, range(7)),  # 4 batches of 2: every image, the last batch is not full
        (9, range(7)),
    ],
)
def test_samples_are_spread_over_the_data(steered_config, run, spy, tmp_path, num_batches, numbers):
    kwargs = dict(num_batches=num_batches) if num_batches else {}
    runner = run(steered_config(tmp_path, hook(**kwargs), train_cfg__max_iters=1), spy)
    torch.testing.assert_close(spy.embeddings[0], mean_token(runner, numbers))


@pytest.mark.parametrize('processes', [3, 8])
def test_processes_share_the_samples(steered_config, run, spy, tmp_path, monkeypatch, processes):
    """The embedding is that of one process with the whole batch. There are seven samples."""
    module = 'toast_mm.engine.hooks.mean_token_init_hook'
    monkeypatch.setattr(f'{module}.get_world_size', lambda: processes)
    reduced = []

    def all_reduce(tensor):
        reduced.append(tensor.clone())
        tensor += 1  # of the others

    monkeypatch.setattr(f'{module}.all_reduce', all_reduce)
    for rank in range(processes):
        monkeypatch.setattr(f'{module}.get_rank', lambda rank=rank: rank)
        cfg = steered_config(tmp_path / str(rank), hook(num_batches=1), train_cfg__max_iters=1)
        runner = run(cfg, spy)
    totals, counts = reduced[::2], reduced[1::2]
    numbers = [0, 1, 2, 3, 4, 6] if processes == 3 else range(7)
    assert sum(counts) == 5 * len(numbers)  # tokens: no sample runs twice
    torch.testing.assert_close(sum(totals) / sum(counts), mean_token(runner, numbers))
    torch.testing.assert_close(spy.embeddings[0], (totals[0] + 1) / (counts[0] + 1))


def test_augmentation_is_a_function_of_seed_and_sample(steered_config, run, spy, tmp_path):
    cfg = steered_config(tmp_path, hook(num_batches=2), train_cfg__max_iters=1)
    cfg.train_dataloader.dataset.pipeline[1].noise = 50
    runner = run(cfg, spy)
    noise = {}
    for number, index in enumerate([0, 2, 4, 6]):
        seed_everything(3, number)  # the seed of the run
        noise[index] = 50 * torch.rand(3, 16, 16)
    torch.testing.assert_close(spy.embeddings[0], mean_token(runner, [0, 2, 4, 6], noise=noise))


@pytest.mark.parametrize('by_epoch', [True, False])
def test_the_training_sees_the_same_data(steered_config, run, tmp_path, by_epoch):
    spies, weights = [], []
    for hooks in ([], [hook()]):
        cfg = steered_config(
            tmp_path / str(len(hooks)),
            *hooks,
            by_epoch=by_epoch,
            backbone=dict(drop_path_rate=0.5),
            optim_wrapper__optimizer=dict(type='SGD', lr=0.0),
        )
        cfg.train_dataloader.dataset.pipeline[1].noise = 50
        spies.append(Spy())
        weights.append(run(cfg, spies[-1]).model.state_dict())
    without, with_hook = spies
    assert without.numbers == with_hook.numbers
    assert without.draws == with_hook.draws == list(range(len(without.draws)))
    assert all(map(torch.equal, without.inputs, with_hook.inputs))
    changed = [name for name in weights[0] if not torch.equal(weights[0][name], weights[1][name])]
    assert changed == ['backbone.topdown.selection.task_embedding']


def test_a_resumed_training_keeps_what_it_learned(steered_config, run, tmp_path):
    runs = []
    for name, resume in (('whole', False), ('resumed', True)):
        cfg = steered_config(tmp_path / name, hook(), train_cfg__max_iters=7, resume=resume)
        if resume:
            (tmp_path / name).mkdir()
            shutil.copy(tmp_path / 'whole' / 'iter_5.pth', tmp_path / name)
        runs.append((run(cfg, spy := Spy()), spy))
    (whole, whole_spy), (resumed, resumed_spy) = runs
    assert len(resumed_spy.embeddings) == 2
    assert torch.equal(resumed_spy.embeddings[0], whole_spy.embeddings[5])
    assert not torch.equal(resumed_spy.embeddings[0], whole_spy.embeddings[0])
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_wrapped_model(steered_config, run, spy, tmp_path, one_process_group):
    runner = run(
        steered_config(tmp_path, hook(), train_cfg__max_iters=1),
        spy,
        wrap=MMDistributedDataParallel,
    )
    assert isinstance(runner.model, MMDistributedDataParallel)
    torch.testing.assert_close(spy.embeddings[0], mean_token(runner, range(7)))


def test_a_sampler_that_does_not_count_is_refused_as_without_the_hook(
    steered_config, run, tmp_path
):
    """The hook's own draws must not count as draws of the sampler."""
    for number, hooks in enumerate(([], [hook()])):
        cfg = steered_config(tmp_path / str(number), *hooks, by_epoch=True)
        cfg.train_dataloader.sampler.type = 'DefaultSampler'
        with pytest.raises(ValueError, match='SeedAugmentation needs a sampler of toast_mm'):
            run(cfg)


def test_any_sampler_without_seeded_augmentation(steered_config, run, spy, tmp_path):
    cfg = steered_config(tmp_path, hook(), by_epoch=True, train_cfg__max_epochs=1)
    cfg.train_dataloader.sampler.type = 'DefaultSampler'
    del cfg.train_dataloader.dataset.pipeline[0]
    runner = run(cfg, spy)
    torch.testing.assert_close(spy.embeddings[0], mean_token(runner, range(7)))


def test_nothing_to_initialise(steered_config, run, spy, tmp_path):
    cfg = steered_config(tmp_path, hook(), backbone=dict(feedback_from=None))
    with pytest.raises(ValueError, match=r'^MeanTokenInitHook: the backbone has no top-down'):
        run(cfg, spy)
    assert not spy.numbers


def test_no_batches():
    with pytest.raises(ValueError, match='num_batches=0 must be at least 1'):
        MeanTokenInitHook(num_batches=0)
