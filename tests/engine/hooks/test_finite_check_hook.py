import math

import mmengine.runner
import pytest
import torch
from mmengine.hooks import Hook

from toast_mm.checkpoint import CheckpointError, load_from_local
from toast_mm.engine import FiniteCheckHook, NotFiniteError, Runner


class SpoilHook(Hook):
    """Spoils a weight, or the loss alone, in some iterations."""

    priority = 'NORMAL'

    def __init__(self, at, weight: bool) -> None:
        self.at, self.weight = at, weight

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 in self.at:
            if self.weight:
                runner.model.head.weight.data[0, 0] = math.nan
            else:
                outputs['loss'] = torch.tensor(math.inf)


def train(cfg, at=(), weight=True) -> Runner:
    runner = Runner.from_cfg(cfg)
    runner.register_hook(SpoilHook(at, weight))
    runner.train()
    return runner


def test_stops_at_once_when_weights_are_spoiled(toy_config, tmp_path):
    with pytest.raises(NotFiniteError) as info:
        train(toy_config(tmp_path), at=[6])
    assert str(info.value) == (
        'iteration 7: the loss is not finite, and so is head.weight. The likely cause is the '
        'learning rate (0.1): lower it, or clip gradients '
        '(optim_wrapper.clip_grad=dict(max_norm=1.0)). The last good checkpoint is '
        f'{tmp_path}/iter_5.pth'
    ).replace('(0.1)', str(info.value).split('rate ')[1].split(':')[0])


def test_not_saved_over_good_ones(toy_config, tmp_path):
    """The weights are spoiled in the iteration that is saved."""
    settings = dict(default_hooks__checkpoint__max_keep_ckpts=1)
    with pytest.raises(NotFiniteError, match=r'iteration 9: head\.weight is not finite') as info:
        train(toy_config(tmp_path, **settings), at=[9])
    assert str(info.value).endswith(f'The last good checkpoint is {tmp_path}/iter_5.pth')
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_5.pth']
    assert (
        load_from_local(str(tmp_path / 'iter_5.pth'))['state_dict']['head.weight'].isfinite().all()
    )


@pytest.mark.parametrize(('patience', 'at', 'stops'), [(3, (2, 3, 4), 4), (3, (2, 3, 5, 6), None)])
def test_patience(toy_config, tmp_path, patience, at, stops):
    """Infinite losses that spoil no weight, as when a scaler skips steps: only some in a row."""
    cfg = toy_config(tmp_path)
    cfg.custom_hooks.append(dict(type='toast_mm.FiniteCheckHook', patience=patience))
    if stops is None:
        assert train(cfg, at, weight=False).iter == 9
        return
    with pytest.raises(NotFiniteError, match=rf'^iteration {stops}: .* for 3 iterations'):
        train(cfg, at, weight=False)


def test_the_data_are_named(toy_config, tmp_path):
    cfg = toy_config(tmp_path)
    runner = Runner.from_cfg(cfg)
    image = torch.ones(3, 4, 4)
    sample = type('Sample', (), dict(get=lambda self, key: '/data/b.png'))()
    batch = dict(inputs=[image, image / 0 * 0], data_samples=[sample, sample])
    runner.optim_wrapper = None
    hook = FiniteCheckHook(patience=1)
    with pytest.raises(NotFiniteError, match=r'in the data: image /data/b\.png of the batch'):
        runner.train_loop  # noqa: B018  built
        hook.after_train_iter(runner, 0, batch, dict(loss=torch.tensor(math.nan)))


@pytest.mark.parametrize(
    ('runner_type', 'use'),
    [
        *((Runner, use) for use in ('test', 'resume', 'start')),
        *((mmengine.runner.Runner, use) for use in ('test', 'start')),
    ],
)
def test_spoiled_checkpoints_are_refused(toy_config, toy_weights, tmp_path, runner_type, use):
    toy_weights['head.weight'][0, :2] = math.nan
    file = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=toy_weights), file)
    cfg = toy_config(tmp_path, load_from=str(file), resume=use == 'resume')
    cfg.custom_hooks.append(dict(type='toast_mm.FiniteCheckHook'))
    with pytest.raises(CheckpointError, match=rf'^{file}: 2 of 8 values of head\.weight are not'):
        runner = runner_type.from_cfg(cfg)
        runner.test() if use == 'test' else runner.train()
    toy_weights['head.weight'] = torch.ones(toy_weights['head.weight'].shape, dtype=torch.int8)
    torch.save(dict(state_dict=toy_weights), file)
    with pytest.raises(
        CheckpointError, match=rf'^{file}: of another type: head\.weight torch\.int8'
    ):
        runner = runner_type.from_cfg(cfg)
        runner.test() if use == 'test' else runner.train()


def test_patience_must_be_positive():
    with pytest.raises(ValueError, match='patience=0 must be at least 1'):
        FiniteCheckHook(patience=0)
