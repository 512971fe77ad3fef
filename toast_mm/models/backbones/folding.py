"""Folding the top-down module in a checkpoint, without building its model."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.task_file import record_name
from toast_mm.models.peft.base import effective_weight_in
from toast_mm.topdown import DeconvFeedback, FeedbackPath, LinearFeedback
from toast_mm.topdown.folding import fold_deconv, fold_linear

EMBEDDING = 'topdown.selection.task_embedding'
TRANSFORM = 'topdown.selection.channel_transform'
FEEDBACK = 'topdown.feedback.'


def fold_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a model with a folded top-down module from those of the trained model.

    TOAST and TOAST-Lite, ViT and ConvNeXt are told apart by names and shapes.

    Args:
        state_dict: Weights of a steered backbone or of a model with one.

    Returns:
        The same weights, those of the top-down module folded as
        ``backbone.fold()`` does.

    Raises:
        CheckpointError: There is no top-down module, it is folded already, or the base is missing.
    """
    if record_name(state_dict):
        raise CheckpointError(
            'it is a task file, without the value projections of its base, which are folded too; '
            'load it and fold the model: model.backbone.fold()'
        )
    prefix = next((n.removesuffix(EMBEDDING) for n in state_dict if n.endswith(EMBEDDING)), None)
    if prefix is None:
        raise CheckpointError(f'there is no top-down module to fold: no weight ends in {EMBEDDING}')
    if f'{prefix}{TRANSFORM}' not in state_dict:
        raise CheckpointError('it is folded already')
    start = f'{prefix}{FEEDBACK}'
    weights = {n[len(start) :]: t for n, t in state_dict.items() if n.startswith(start)}
    if all(name.startswith(f'{prefix}topdown.') for name in state_dict):
        raise CheckpointError(
            'it holds the top-down module alone; fold a checkpoint of the whole model'
        )
    transform = state_dict[f'{prefix}{TRANSFORM}']
    receivers = sorted({int(name.split('.')[1]) for name in weights})
    lite = next(
        (dict(rank=len(t)) for n, t in weights.items() if n.endswith('.updates.emit.down')), None
    )
    is_vit = weights[f'layers.{receivers[0]}.descend.weight'].ndim == 2
    feedback: FeedbackPath
    feedback = (
        LinearFeedback(len(transform), receivers)
        if is_vit
        else _deconv_feedback(weights, receivers)
    )
    if lite:
        feedback.add_low_rank(**lite)
    feedback.load_state_dict(weights)
    folded: nn.Module
    if is_vit:
        values = {
            block: effective_weight_in(
                state_dict, f'{prefix}layers.{block}.attn.qkv.', slice(-len(transform), None)
            )
            for block in receivers
        }
        folded = fold_linear(feedback, transform, values)
    else:
        folded = fold_deconv(feedback, transform)
    rest = {
        name: tensor
        for name, tensor in state_dict.items()
        if not name.startswith(start) and name != f'{prefix}{TRANSFORM}'
    }
    return rest | {f'{start}{name}': tensor for name, tensor in folded.state_dict().items()}


def _deconv_feedback(weights: Mapping[str, Tensor], receivers: list[int]) -> DeconvFeedback:
    channels, strides = [0] * (receivers[-1] + 2), [0] * (receivers[-1] + 1)
    for stage in receivers:
        channels[stage + 1], channels[stage], strides[stage], _ = weights[
            f'layers.{stage}.descend.weight'
        ].shape
    return DeconvFeedback(channels, strides, receivers)
