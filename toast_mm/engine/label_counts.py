"""Counting the labels in data, and finding wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor


class LabelCounts:
    """Counts of every class in one part of the data.

    Args:
        part: ``'train'``, ``'val'`` or ``'test'``.
        num_classes: Number of classes.
        ignore_index: Label that is ignored, or None.
        classes: Names of the classes, or None.
    """

    def __init__(
        self,
        part: str,
        num_classes: int,
        ignore_index: int | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.part = part
        self.ignore_index = ignore_index
        self.classes = list(map(str, classes or range(num_classes)))
        self.counts = torch.zeros(
            num_classes + 1, dtype=torch.int64
        )  # the last entry counts ignored labels
        self.batches = 0
        self.file: str | None = None  # first file with ignored labels
        self.reduced = False

    def add(self, labels: Tensor, sample: Any) -> None:
        """Count the labels of a sample; each is a class or ignored."""
        number = len(self.counts) - 1
        labels = labels.flatten().long()
        if labels.numel() and int(labels.min()) < 0:
            labels = torch.where(
                labels < 0, number, labels
            )  # ignored, like any label that is not a class
        counts = torch.bincount(labels, minlength=number)[:number]
        ignored = labels.numel() - int(counts.sum())
        if self.ignore_index is not None and 0 <= self.ignore_index < number:
            ignored += int(counts[self.ignore_index])
            counts[self.ignore_index] = 0
        self.counts[:-1] += counts
        self.counts[-1] += ignored
        if ignored and self.file is None:
            self.file = sample.get('seg_map_path') or sample.get('img_path')
            self.reduced = bool(sample.get('reduce_zero_label'))

    def judge(self, complete: bool) -> tuple[str | None, str | None]:
        """Return an error and a warning about the counts of all processes, each None if not needed.

        Args:
            complete: Whether all labels are counted.
        """
        counts = self.counts.clone()
        all_reduce(counts)
        total, ignored = int(counts.sum()), int(counts[-1])
        where = f'; the first such file is {self.file}' if self.file else ''
        reason = ' (from 0, by reduce_zero_label)' if self.reduced else ''
        share = f'{ignored / max(total, 1):.1%} of the labels are {self.ignore_index}{reason}'
        if total and ignored == total:
            return f'all labels of the {self.part} data are ignored: {share}{where}', None
        missing = [
            self.classes[index]
            for index in (counts[:-1] == 0).nonzero()[:, 0].tolist()
            if index != self.ignore_index
        ]
        if not total or not missing:
            return None, None
        sentence = f'{_some(missing)} never occurs in the {self.part} data'
        sentence += f', but {share}, which is ignored{where}' if ignored else ''
        if ignored and len(self.classes) == 2:
            advice = 'masks of 0 and 255 must be converted to 0 and 1'
            if self.reduced:
                advice = 'leave out reduce_zero_label, or number the classes from 1'
            if complete:
                return f'class {sentence}: {advice}', None
            return None, f'so far, class {sentence}: {advice}'
        return None, f'{len(missing)} of {len(self.classes)} classes: {sentence}' * complete or None


def _some(names: list[str]) -> str:
    more = f' and {len(names) - 10} more' if len(names) > 10 else ''
    return ', '.join(map(repr, names[:10])) + more


def check_size(sample: Any, image: Any, part: str) -> None:
    """Check that a mask, loaded by any transform, and its image have the same size.

    Raises:
        ValueError: Their sizes differ; the message names both files.
    """
    if 'gt_sem_seg' not in sample:
        return
    size = tuple(sample.gt_sem_seg.data.shape[-2:])
    fitting = [tuple(image.shape[-2:])] if hasattr(image, 'shape') else []
    # In evaluation the mask may have the size of the original image or of the model's input.
    if part != 'train' and sample.get('ori_shape'):
        fitting.append(tuple(sample.get('ori_shape')[:2]))
    if fitting and size not in fitting:
        height, width = fitting[-1]
        raise ValueError(
            f'{sample.get("seg_map_path")} is a mask of {size[1]} x {size[0]} pixels, but its '
            f'image {sample.get("img_path")} has {width} x {height}'
        )


def labels_of(sample: Any, head: Any) -> Tensor | None:
    """Labels of a sample; None if it has none.

    Raises:
        ValueError: A label is outside the classes.
    """
    if 'gt_sem_seg' in sample:
        labels, file = sample.gt_sem_seg.data, sample.get('seg_map_path')
    elif 'gt_label' in sample:
        labels, file = sample.gt_label, sample.get('img_path')
    else:
        return None
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
    return labels
