"""Data that does not fit the head, named before it does harm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from toast_mm.engine.model import unwrap
from toast_mm.registry import HOOKS


@HOOKS.register_module()
class DataCheckHook(Hook):
    """Check that the classes and labels of the data are those of the head.

    A label outside the classes would be an unnamed device assert in the loss
    and pass unseen in the metric.

    Raises:
        ValueError: Names the data set or the file, the label and the range.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Compare the training data set with the head."""
        self._check_dataset(runner, 'train', runner.train_dataloader.dataset)

    def before_val(self, runner: Runner) -> None:
        """Compare the validation data set with the head."""
        self._check_dataset(runner, 'val', runner.val_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        """Compare the test data set with the head."""
        self._check_dataset(runner, 'test', runner.test_dataloader.dataset)

    def _before_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, mode: str = 'train'
    ) -> None:
        head = _head(runner.model)
        samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
        if head is None or samples is None:
            return
        for sample in samples:
            for view in sample if isinstance(sample, Sequence) else [sample]:  # views under TTA
                _check_labels(view, head[1])

    @staticmethod
    def _check_dataset(runner: Runner, mode: str, dataset: Any) -> None:
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        head = _head(runner.model)
        if head and classes and len(classes) != head[1].num_classes:
            raise ValueError(
                f'the {mode} data set {type(dataset).__name__} has {len(classes)} classes, but '
                f'model.{head[0]}.num_classes is {head[1].num_classes}'
            )


def _head(model: Any) -> tuple[str, Any] | None:
    """The head that the labels go to, and its name."""
    model = unwrap(model)
    for name in ('decode_head', 'head'):
        head = getattr(model, name, None)
        if hasattr(head, 'num_classes'):
            return name, head
    return None


def _check_labels(sample: Any, head: Any) -> None:
    if 'gt_sem_seg' in sample:
        labels, file = sample.gt_sem_seg.data, sample.get('seg_map_path')
    elif 'gt_label' in sample:
        labels, file = sample.gt_label, sample.get('img_path')
    else:
        return
    ignore = getattr(head, 'ignore_index', None)
    outside = (labels < 0) | (labels >= head.num_classes)
    if ignore is not None:
        outside &= labels != ignore
    if outside.any():
        ignored = '' if ignore is None else f' or {ignore} (ignored)'
        raise ValueError(
            f'{file}: labels {labels[outside].unique().tolist()} are outside the classes of the '
            f'head, 0..{head.num_classes - 1}{ignored}'
        )
