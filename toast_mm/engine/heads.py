"""Finding the heads of a model that learn from labels, and checking that they agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmseg.models.decode_heads import STDCHead
from torch import nn

from toast_mm.engine.model import unwrap


def label_heads(model: Any) -> dict[str, Any]:
    """Heads with classes, by name; the first one is the head that predicts.

    The heads of a cascade or of a list of auxiliary heads count one by one: ``decode_head.0``, ...
    In a cascade the last head predicts.
    """
    model = unwrap(model)
    heads = {}
    for name in ('decode_head', 'head', 'auxiliary_head'):
        part = getattr(model, name, None)
        parts = {name: part}
        if isinstance(part, nn.ModuleList):
            parts = {f'{name}.{index}': head for index, head in reversed([*enumerate(part)])}
        heads.update({n: h for n, h in parts.items() if isinstance(_number(h), int)})
    return heads


def disagreement(heads: dict[str, Any]) -> str | None:
    """Describe heads that interpret the same labels differently; None if there are none."""
    if not heads:
        return None
    name, first = next(iter(heads.items()))
    for other_name, other in heads.items():
        if _makes_targets(other):
            continue
        for key in ('num_classes', 'ignore_index'):
            one, two = getattr(first, key, None), getattr(other, key, None)
            if one != two and None not in (one, two):
                return (
                    f'model.{name}.{key} is {one}, but model.{other_name}.{key} is {two}: both '
                    'learn from the same labels'
                )
    return None


def _makes_targets(head: Any) -> bool:
    """Whether a head makes its own targets: STDC's (edges), and foreign heads with own losses."""
    owner = next((kind for kind in type(head).__mro__ if 'loss_by_feat' in vars(kind)), None)
    known = owner is None or owner.__module__.startswith(('mmseg.', 'toast_mm.'))
    return owner is STDCHead or not known


def learns_nothing(heads: dict[str, Any]) -> str | None:
    """Describe a head whose loss is always 0; None if there is none."""
    for name, head in heads.items():
        losses = getattr(head, 'loss_decode', None) or getattr(head, 'loss_module', None)
        losses = losses if isinstance(losses, nn.ModuleList) else [losses]
        softmax = all(
            getattr(loss, 'use_sigmoid', None) is False and not getattr(loss, 'use_mask', False)
            for loss in losses
        )
        if _number(head) == 1 and softmax:
            return (
                f'model.{name} has one class, whose softmax is always 1, and learns nothing: '
                'make the background a second class (num_classes=2)'
            )
    return None


def wrong_padding(model: Any, heads: dict[str, Any]) -> str | None:
    """Describe padding that heads would learn from; None if there is none."""
    preprocessor: Any = getattr(unwrap(model), 'data_preprocessor', None)
    pad = getattr(preprocessor, 'seg_pad_val', None)
    if pad is None or not (preprocessor.size or preprocessor.size_divisor):
        return None
    for name, head in heads.items():
        ignored = getattr(head, 'ignore_index', None)
        if ignored not in (None, pad):
            return (
                f'model.data_preprocessor.seg_pad_val is {pad}, but model.{name}.ignore_index is '
                f'{ignored}: the head would learn from padding'
            )
    return None


def learned_padding(transforms: Iterable[Any], heads: dict[str, Any]) -> str | None:
    """Describe a transform whose padding heads learn from, which may be intended; or None."""
    for name, head in [*heads.items()][:1]:
        ignored = getattr(head, 'ignore_index', None)
        for transform in transforms:
            pad = getattr(transform, 'seg_pad_val', None)  # of RandomRotate
            values = getattr(transform, 'pad_val', None)  # of Pad
            if pad is None and isinstance(values, Mapping):
                pad = values.get('seg')
            if None not in (pad, ignored) and pad != ignored:
                return (
                    f'{type(transform).__name__} pads masks with {pad}, but model.{name}.'
                    f'ignore_index is {ignored}: the head learns padding as class {pad}'
                )
    return None


def other_ignored(evaluator: Any, heads: dict[str, Any]) -> str | None:
    """Describe a metric that ignores another label than the head; None if there is none."""
    for name, head in [*heads.items()][:1]:
        ignored = getattr(head, 'ignore_index', None)
        for metric in getattr(evaluator, 'metrics', []):
            theirs = getattr(metric, 'ignore_index', None)
            if None not in (ignored, theirs) and theirs != ignored:
                return (
                    f'the metric {type(metric).__name__} has ignore_index={theirs}, but '
                    f'model.{name} has {ignored}'
                )
    return None


def _number(head: Any) -> Any:
    return getattr(head, 'num_classes', None)
