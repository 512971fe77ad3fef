"""Data that does not fit the head, or other data, named before it does harm."""

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
from toast_mm.registry import HOOKS


@HOOKS.register_module()
class DataCheckHook(SingleHook):
    """Check that data and heads, and all parts of the data, mean the same by a label.

    - No data set is empty: a sampler would search for a sample for ever.
    - Training, validation and test data and the checkpoint that is tested or resumed have the
      same classes in the same order, and the same ``reduce_zero_label``. A training that starts
      from other weights (``load_from``) may have classes of its own.
    - Heads have as many classes as the data, and agree on these and on ``ignore_index``; padding
      and metric ignore the same label.
    - No label is outside the classes. It would be an unnamed device assert in the loss and pass
      unseen in the metric.
    - Labels are not all ignored, and every class occurs. Labels are counted over the first pass
      through the training data, and in every validation and test; a crop of 512 x 512 takes
      about a millisecond.
    - Files that a data set passes over are told: of other suffixes, dead links, images without a
      mask. The names in each folder are read once, by the first process. So are images that
      mmcv's ``LoadImageFromFile`` makes nearly black, by the first one of each data set.
    - Masks have the size of their images, whatever transform loaded them.

    Works under any Runner of mmengine, from ``custom_hooks``.

    Args:
        batches: After how many batches of training labels must not all be ignored. Defaults to 20.
        compare: What must be the same in all parts; ``()`` for data that differ on purpose.
            Defaults to ``('classes', 'class_folders', 'reduce_zero_label')``.

    Raises:
        ValueError: Names the data set or the file, the class or label, and what it should be.
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
        self._train: tuple[str, dict] | None = None  # what the labels of the training mean
        self._checkpoint: tuple[str, dict] | None = None
        self._counts: dict[str, LabelCounts] = {}
        self._said: set[str] = set()
        self._listed: set[str] = set()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note what the labels meant in the training of a checkpoint."""
        meta = checkpoint.get('meta') or {}
        meaning = from_metainfo(meta.get('dataset_meta'))
        if meta.get('class_folders'):
            meaning['class_folders'] = list(meta['class_folders'])
        name = getattr(runner, '_load_from', None)
        self._checkpoint = (f'the checkpoint {name}' if name else 'the checkpoint', meaning)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note the folders of classes that have other names; mmengine notes the names."""
        folders = (self._train or ('', {}))[1].get('class_folders')
        if folders:
            checkpoint['meta']['class_folders'] = folders

    def before_train(self, runner: Runner) -> None:
        """Compare the training data with the heads, the validation data, and what is resumed."""
        dataset = runner.train_dataloader.dataset
        self._check_samples(runner, 'train', dataset)
        self._train = None
        resumed = self._checkpoint if getattr(runner, '_resume', False) else None
        self._check_meaning('train', dataset, resumed)
        self._check_dataset(runner, 'train', dataset)
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
                runner.logger.warning(
                    f'The {part} data set passes over files in {files.folder}: {files}'
                )
            if path := first_darkened(leaf):
                runner.logger.warning(
                    f"{path} has more than 8 bits per channel, of which mmcv's LoadImageFromFile "
                    'takes the highest: toast_mm.LoadImageFromFile takes those that are used'
                )

    def _check_meaning(self, part: str, dataset: Any, reference: tuple[str, dict] | None) -> None:
        meaning = meaning_of_labels(dataset)
        classes, folders = meaning.get('classes'), meaning.get('class_folders')
        if classes and folders and {*classes} == {*folders}:
            raise ValueError(
                f'{_describe(part, dataset)} numbers its classes by the names of their folders, '
                f'{folders}, but says they are {classes}: leave out the names, or sort them'
            )
        if reference is None:
            return
        sentence = difference(
            meaning, reference[1], _describe(part, dataset), reference[0], self.compare
        )
        if sentence:
            raise ValueError(
                f'{sentence} If this is meant, say compare=() of toast_mm.DataCheckHook'
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
        """After some batches: is anything learned? After a pass: are all classes?"""
        whole = self._pass(runner)
        last = min(self.batches, whole, getattr(runner, 'max_iters', None) or whole)
        if counts.batches not in (last, whole):
            return
        self._judge(runner, counts, complete=counts.batches == whole)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Judge the labels of the validation data before a best checkpoint is saved by them."""
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
        if warning and warning not in self._said:  # once, and not in every validation
            self._said.add(warning)
            runner.logger.warning(warning[0].upper() + warning[1:])

    @staticmethod
    def _pass(runner: Runner) -> int:
        """Number of batches in which every training image is seen once."""
        loader: Any = getattr(runner, 'train_dataloader', None)
        if not isinstance(getattr(loader, 'dataset', None), Sized):
            return sys.maxsize
        per_step = (loader.batch_size or 1) * get_world_size()
        return max(1, math.ceil(len(loader.dataset) / per_step))

    def _warn_of_orientation(self, runner: Runner, sample: Any) -> None:
        """Nobody can tell from the sizes whether a mask is turned by 180 degrees or mirrored."""
        if 'orientation' in self._said or 'gt_sem_seg' not in sample:
            return
        turned = exif_orientation(str(sample.get('img_path')))
        if turned > 1:
            self._said.add('orientation')
            runner.logger.warning(
                f'{sample.get("img_path")} has the EXIF orientation {turned}, by which images are '
                'turned or mirrored when they are read. Masks are read as they are stored: look '
                "whether they fit. color_type='color_ignore_orientation' reads images so as well"
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
