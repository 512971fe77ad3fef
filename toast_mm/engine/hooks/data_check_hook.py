"""Checking that the data fit the head and each other."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence, Sized
from typing import Any

from mmengine.dist import get_world_size, is_main_process
from mmengine.runner import Runner
from mmseg.datasets.transforms import LoadAnnotations

from toast_mm.datasets.loading import exif_orientation, first_darkened
from toast_mm.datasets.passed_over import passed_over
from toast_mm.engine.bands import other_bands, other_images
from toast_mm.engine.class_names import (
    COMPARED,
    difference,
    first_leaf,
    from_metainfo,
    leaves,
    meaning_of_labels,
)
from toast_mm.engine.dataloaders import check_samples
from toast_mm.engine.heads import (
    disagreement,
    label_heads,
    learned_padding,
    learns_nothing,
    other_ignored,
    wrong_padding,
)
from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.engine.label_counts import LabelCounts, check_size, labels_of
from toast_mm.engine.normalisation import other_normalisation
from toast_mm.registry import HOOKS


@HOOKS.register_module()
class DataCheckHook(SingleHook):
    """Check that a label means the same in all parts of the data and in all heads.

    It checks that

    - no data set is empty: a sampler would search for a sample forever;
    - training, validation and test data and a checkpoint that is tested or resumed have the same
      classes in the same order, and the same ``reduce_zero_label``; a training that starts from
      other weights (``load_from``) may have other classes;
    - heads have as many classes as the data and the same ``ignore_index``, which padding and metric
      use as well;
    - no label is outside the classes: the loss would fail with an unclear device assert, and the
      metric would not notice;
    - not all labels are ignored, and every class occurs. Labels are counted over the first epoch of
      the training data and in every validation and test; a crop of 512 x 512 takes about a
      millisecond;
    - images, means and the backbone's ``in_channels`` have the same number of bands, and no
      transform of colours runs on other than three;
    - masks have the size of their images, for any transform that loads them.

    It warns about files that a data set skips (other suffixes, dead links, images without a mask),
    and about images that mmcv's ``LoadImageFromFile`` makes nearly black, from the first image of
    each data set. The first process lists each folder once for that.

    The hook works under any Runner of mmengine, from ``custom_hooks``.

    Args:
        batches: Number of training batches after which labels must not all be ignored. Defaults to
            20.
        compare: What must be the same in all parts of the data; ``()`` for data that differ on
            purpose. Defaults to ``('classes', 'class_folders', 'reduce_zero_label')``.

    Raises:
        ValueError: A check fails; the message names the data set or file, the class or label, and
            the right value.
    """

    priority = 'VERY_HIGH'

    def __init__(self, batches: int = 20, compare: Sequence[str] = COMPARED) -> None:
        if batches < 1:
            raise ValueError(f'DataCheckHook: batches={batches} must be at least 1')
        unknown = [key for key in compare if key not in COMPARED]
        if isinstance(compare, str) or unknown:
            raise ValueError(f'DataCheckHook: compare={compare!r} must be some of {COMPARED}')
        self.batches = batches
        self.compare = compare
        self._train: tuple[str, dict] | None = None  # meaning of the training labels
        self._checkpoint: tuple[str, dict] | None = None
        self._counts: dict[str, LabelCounts] = {}
        self._said: set[str] = set()
        self._listed: set[str] = set()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note the meaning of the labels in a checkpoint."""
        meta = checkpoint.get('meta') or {}
        meaning = from_metainfo(meta.get('dataset_meta'))
        if meta.get('class_folders'):
            meaning['class_folders'] = list(meta['class_folders'])
        name = getattr(runner, '_load_from', None)
        self._checkpoint = (f'the checkpoint {name}' if name else 'the checkpoint', meaning)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Save the folders of the classes if they differ from the names, which mmengine saves."""
        folders = (self._train or ('', {}))[1].get('class_folders')
        if folders:
            checkpoint['meta']['class_folders'] = folders

    def before_train(self, runner: Runner) -> None:
        """Compare the training data with heads, validation data and a resumed checkpoint."""
        dataset = runner.train_dataloader.dataset
        self._check_samples(runner, 'train', dataset)
        self._train = None
        resumed = self._checkpoint if getattr(runner, '_resume', False) else None
        self._check_meaning('train', dataset, resumed)
        self._check_dataset(runner, 'train', dataset)
        _demand(other_bands(runner.model, dataset))
        heads = label_heads(runner.model)
        _demand(learns_nothing(heads))
        _demand(wrong_padding(runner.model, heads))
        self._train = (_describe('train', dataset), meaning_of_labels(dataset))
        validation = getattr(getattr(runner, 'val_dataloader', None), 'dataset', None)
        if validation is not None:
            self._check_meaning('val', validation, self._train)
        self._counts.pop('train', None)
        self._tell_files(runner, 'train', dataset)
        transforms = getattr(getattr(first_leaf(dataset), 'pipeline', None), 'transforms', [])
        if doubt := other_normalisation(runner.model):
            runner.logger.warning(doubt)
        if padding := learned_padding(transforms, heads):
            runner.logger.warning(padding)
        if any(type(transform) is LoadAnnotations for transform in transforms):
            runner.logger.warning(
                "The training masks are loaded by mmseg's LoadAnnotations, which does not compare "
                'them with their images; toast_mm.LoadAnnotations does'
            )

    def before_val(self, runner: Runner) -> None:
        """Compare the validation data with the head and the training."""
        self._before_evaluation(runner, 'val')

    def before_test(self, runner: Runner) -> None:
        """Compare the test data with the head and the training."""
        self._before_evaluation(runner, 'test')

    def _before_evaluation(self, runner: Runner, part: str) -> None:
        dataset = getattr(runner, f'{part}_dataloader').dataset
        self._check_samples(runner, part, dataset)
        self._check_meaning(part, dataset, self._train or self._checkpoint)
        self._check_dataset(runner, part, dataset)
        _demand(other_bands(runner.model, dataset))
        self._counts.pop(part, None)
        self._tell_files(runner, part, dataset)
        evaluator = getattr(runner, f'{part}_evaluator', None)
        _demand(other_ignored(evaluator, label_heads(runner.model)))

    @staticmethod
    def _check_samples(runner: Runner, part: str, dataset: Any) -> None:
        config = (getattr(runner, 'cfg', {}).get(f'{part}_dataloader') or {}).get('dataset')
        check_samples(dataset, config or dataset)

    def _tell_files(self, runner: Runner, part: str, dataset: Any) -> None:
        if part in self._listed or not is_main_process():
            return
        self._listed.add(part)
        for leaf in leaves(dataset):
            files = passed_over(leaf)
            if files:
                runner.logger.warning(f'The {part} data set skips files in {files.folder}: {files}')
            if path := first_darkened(leaf):
                runner.logger.warning(
                    f"{path} has more than 8 bits per channel; mmcv's LoadImageFromFile keeps the "
                    'highest 8, toast_mm.LoadImageFromFile the bits that are used'
                )

    def _check_meaning(self, part: str, dataset: Any, reference: tuple[str, dict] | None) -> None:
        meaning = meaning_of_labels(dataset)
        classes, folders = meaning.get('classes'), meaning.get('class_folders')
        if classes and folders and {*classes} == {*folders}:
            raise ValueError(
                f'{_describe(part, dataset)} numbers its classes in the order of their folders, '
                f'{folders}, but names them {classes}: leave out the names, or sort them'
            )
        if reference is None:
            return
        sentence = difference(
            meaning, reference[1], _describe(part, dataset), reference[0], self.compare
        )
        if sentence:
            raise ValueError(
                f'{sentence} If this is intended, set compare=() of toast_mm.DataCheckHook'
            )

    @staticmethod
    def _check_dataset(runner: Runner, part: str, dataset: Any) -> None:
        heads = label_heads(runner.model)
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        for name, head in [*heads.items()][:1]:
            if classes and len(classes) != head.num_classes:
                raise ValueError(
                    f'the {part} data set {type(dataset).__name__} has {len(classes)} classes, but '
                    f'model.{name}.num_classes is {head.num_classes}'
                )
        _demand(disagreement(heads))

    def _before_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, mode: str = 'train'
    ) -> None:
        _demand(other_images(runner.model, data_batch))
        heads = label_heads(runner.model)
        samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
        if not heads or samples is None:
            return
        head = next(iter(heads.values()))
        if mode not in self._counts:
            loader = getattr(runner, f'{mode}_dataloader', None)
            classes = meaning_of_labels(getattr(loader, 'dataset', None)).get('classes')
            ignored = getattr(head, 'ignore_index', None)
            self._counts[mode] = LabelCounts(mode, head.num_classes, ignored, classes)
        counts = self._counts[mode]
        images = data_batch.get('inputs')
        if images is None or len(images) != len(samples):
            images = [None] * len(samples)
        counting = mode != 'train' or counts.batches < self._pass(runner)
        for sample, image in zip(samples, images, strict=True):
            views = sample if isinstance(sample, Sequence) else [sample]  # under TTA
            for number, view in enumerate(views):
                labels = labels_of(view, head)
                if labels is not None and counting and number == 0:
                    counts.add(labels, view)
                    check_size(view, image if len(views) == 1 else None, mode)
                    if mode == 'train' and counts.batches < self.batches:
                        self._warn_of_orientation(runner, view)
        counts.batches += 1
        if mode == 'train' and counting:
            self._judge_training(runner, counts)

    def _judge_training(self, runner: Runner, counts: LabelCounts) -> None:
        """Judge after some batches (is any label used?) and after an epoch (are all classes?)."""
        whole = self._pass(runner)
        last = min(self.batches, whole, getattr(runner, 'max_iters', None) or whole)
        if counts.batches not in (last, whole):
            return
        self._judge(runner, counts, complete=counts.batches == whole)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Judge the labels of the validation data before a best checkpoint is saved."""
        self._judge_evaluation(runner, 'val')

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Judge the labels of the test data."""
        self._judge_evaluation(runner, 'test')

    def _judge_evaluation(self, runner: Runner, part: str) -> None:
        if part in self._counts:
            self._judge(runner, self._counts.pop(part), complete=True)

    def _judge(self, runner: Runner, counts: LabelCounts, complete: bool) -> None:
        error, warning = counts.judge(complete)
        _demand(error)
        if warning and warning not in self._said:  # once, not in every validation
            self._said.add(warning)
            runner.logger.warning(warning[0].upper() + warning[1:])

    @staticmethod
    def _pass(runner: Runner) -> int:
        """Number of batches in an epoch of the training data."""
        loader: Any = getattr(runner, 'train_dataloader', None)
        if not isinstance(getattr(loader, 'dataset', None), Sized):
            return sys.maxsize
        per_step = (loader.batch_size or 1) * get_world_size()
        return max(1, math.ceil(len(loader.dataset) / per_step))

    def _warn_of_orientation(self, runner: Runner, sample: Any) -> None:
        """Warn about an EXIF orientation, which sizes do not always show."""
        if 'orientation' in self._said or 'gt_sem_seg' not in sample:
            return
        turned = exif_orientation(str(sample.get('img_path')))
        if turned > 1:
            self._said.add('orientation')
            runner.logger.warning(
                f'{sample.get("img_path")} has the EXIF orientation {turned}: it is rotated or '
                'mirrored when it is read. Masks are read as stored: check that they fit. '
                "color_type='color_ignore_orientation' reads images as stored, too"
            )


def _demand(complaint: str | None) -> None:
    if complaint:
        raise ValueError(complaint)


def _describe(part: str, dataset: Any) -> str:
    leaf = first_leaf(dataset)
    prefix = getattr(leaf, 'data_prefix', None)
    place = next(iter(prefix.values()), '') if isinstance(prefix, dict) else prefix
    place = place or getattr(leaf, 'data_root', None) or getattr(leaf, 'ann_file', None)
    return f'the {part} data set{f" in {place}" if place else ""}'
