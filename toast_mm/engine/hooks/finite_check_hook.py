"""Stopping a training before weights that are infinite or NaN replace good ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.runner import Runner
from torch import Tensor, nn

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.coverage import other_types
from toast_mm.checkpoint.finite import check_finite, is_float, not_finite
from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.engine.model import unwrap
from toast_mm.engine.resumption import loaded_file
from toast_mm.registry import HOOKS


class NotFiniteError(ArithmeticError):
    """A training has diverged; the message says when, why, and which checkpoint is good."""


@HOOKS.register_module()
class FiniteCheckHook(SingleHook):
    """Stop a training whose loss or weights are infinite or NaN.

    The loss may be infinite or NaN in up to ``patience`` iterations in a row, since a loss scaler
    of mixed precision skips such steps. If a weight is infinite or NaN as well, the training stops
    at once. Such weights are neither saved, so all checkpoints are good, nor loaded.

    ``toast_mm.Runner`` always adds this hook.

    Args:
        patience: Iterations in a row whose loss may be infinite or NaN. Defaults to 10.

    Raises:
        NotFiniteError: The training has diverged; the message names the iteration, the likely cause
            and the last good checkpoint.
        CheckpointError: A weight in a checkpoint is not finite; the message names it.
    """

    priority = 'VERY_LOW'  # after EMAHook has put averaged weights into the checkpoint

    def __init__(self, patience: int = 10) -> None:
        if patience < 1:
            raise ValueError(f'patience={patience} must be at least 1')
        self.patience = patience
        self._in_a_row = 0
        self._last_good: str | None = None

    def before_train(self, runner: Runner) -> None:
        """Note the checkpoint that is resumed."""
        self._last_good = runner.message_hub.runtime_info.get('last_ckpt')

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Check the loss and, if it is not finite, the weights."""
        losses = [
            x for name, x in (outputs or {}).items() if name.startswith('loss') and is_float(x)
        ]
        if all(loss.isfinite().all() for loss in losses):
            self._in_a_row = 0
            return
        self._in_a_row += 1
        spoiled = not_finite(_learned(runner.model))
        if spoiled or self._in_a_row >= self.patience:
            times = f' for {self._in_a_row} iterations' if self._in_a_row > 1 else ''
            weights = f', and so is {spoiled[0]}' if spoiled else ''
            raise NotFiniteError(
                f'iteration {runner.iter + 1}: the loss is not finite{times}{weights}. '
                f'{_likely_cause(runner, data_batch)}. {self._advice()}'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Check that the weights to save are finite."""
        names = [name for name, _ in _learned(runner.model)]
        weights = checkpoint['state_dict']
        average = checkpoint.get('ema_state_dict', {})
        pairs = [(name, weights[name]) for name in names if name in weights]
        pairs += [
            (f'module.{n}', average[f'module.{n}']) for n in names if f'module.{n}' in average
        ]
        if spoiled := not_finite(pairs):
            raise NotFiniteError(
                f'iteration {checkpoint["meta"]["iter"]}: {spoiled[0]} is not finite, so nothing '
                f'is saved. {_likely_cause(runner)}. {self._advice()}'
            )

        self._last_good = runner.message_hub.runtime_info.get('last_ckpt')

    def _advice(self) -> str:
        if self._last_good is None:
            return 'No checkpoint was saved before'
        return f'The last good checkpoint is {self._last_good}'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Check that the weights of a checkpoint are finite, and no whole numbers."""
        weights = checkpoint.get('state_dict', checkpoint)
        parameters = dict(unwrap(runner.model).named_parameters())
        loaded = {name: weights[name] for name in weights if name in parameters}
        if wrong := other_types(parameters, loaded):
            raise CheckpointError(f'{loaded_file(runner)}: of another type: {", ".join(wrong[:3])}')
        check_finite(loaded, loaded_file(runner))


def _learned(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Tensors that change in a training: tuned parameters, and statistics of normalisation.

    The frozen base does not change, and may have a buffer that is infinite on purpose.
    """
    model = unwrap(model)
    tuned = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    statistics = [
        (name, buffer)
        for name, buffer in model.named_buffers()
        if name.endswith(('running_mean', 'running_var'))
    ]
    return tuned + statistics


def _likely_cause(runner: Runner, batch: Any = None) -> str:
    """Describe the likely cause."""
    for number, image in enumerate(_images(batch)):
        if not_finite([('image', image)]):
            samples = batch.get('data_samples') or []
            file = samples[number].get('img_path') if number < len(samples) else None
            return f'The cause is in the data: image {file or number} of the batch is not finite'
    frozen = [(n, p) for n, p in unwrap(runner.model).named_parameters() if not p.requires_grad]
    if spoiled := not_finite(frozen):
        return f'The cause is in the frozen weights that were loaded: {spoiled[0]} is not finite'
    wrapper = runner.optim_wrapper
    rates = ', '.join(sorted({f'{group["lr"]:.3g}' for group in wrapper.param_groups}))
    advice = f'The likely cause is the learning rate ({rates}): lower it'
    if not getattr(wrapper, 'clip_grad_kwargs', None):
        advice += ', or clip gradients (optim_wrapper.clip_grad=dict(max_norm=1.0))'
    if hasattr(wrapper, 'loss_scaler'):
        advice += "; or float16, whose range is small: optim_wrapper.dtype='bfloat16'"
    return advice


def _images(batch: Any) -> list[Tensor]:
    inputs = batch.get('inputs') if isinstance(batch, dict) else None
    return [image for image in inputs if isinstance(image, Tensor)] if inputs is not None else []
