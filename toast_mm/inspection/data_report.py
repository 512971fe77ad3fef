"""Inspecting all data of a config."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader, Dataset

from toast_mm.datasets.passed_over import PassedOver, passed_over
from toast_mm.engine.class_names import difference, leaves, meaning_of_labels
from toast_mm.engine.config import ConfigError
from toast_mm.engine.explain import explained
from toast_mm.engine.label_counts import LabelCounts
from toast_mm.inspection.findings import Finding
from toast_mm.inspection.sample import DEAD_LINK, Sample, check_sample
from toast_mm.samples import split_dataset

SPLITS = ('train', 'val', 'test')
BATCH = 16  # samples that a process checks at a time

Progress = Callable[[Iterable[Any], int], Iterable[Any]]


@dataclass
class SplitReport:
    """What one split of the data holds.

    Attributes:
        dataset: The data set.
        members: The data set without wrappers, and the index, of every sample.
        samples: What was found about every sample.
        classes: Names of the classes.
        counts: Images of every class; of a segmentation, pixels.
        same_as: An earlier split with the same samples, if there is one.
    """

    dataset: Any
    members: list[tuple[Any, int]]
    samples: list[Sample] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    same_as: str | None = None

    @property
    def segments(self) -> bool:
        """Whether the samples have masks."""
        return any(sample.mask is not None for sample in self.samples)

    def kinds(self) -> Counter[str]:
        """Number of images by format and mode."""
        return Counter(sample.kind or 'other' for sample in self.samples)

    def sizes(self) -> list[tuple[int, int]]:
        """Widths and heights of all images that could be loaded."""
        return [sample.size for sample in self.samples if sample.size is not None]


@dataclass
class DataReport:
    """What the data of a config hold."""

    splits: dict[str, SplitReport] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


class _Checks(Dataset):
    """Checks of samples, as a data set that data workers read."""

    def __init__(self, members: Sequence[tuple[Any, int]], num_classes: int | None) -> None:
        self.members = members
        self.num_classes = num_classes

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, index: int) -> Sample:
        dataset, number = self.members[index]
        return check_sample(dataset, number, self.num_classes)


def inspect(
    cfg: Config,
    jobs: int | None = None,
    progress: Progress = lambda samples, total: samples,
) -> DataReport:
    """Check every file of the training, validation and test data of a config.

    Args:
        cfg: The config; its data loaders are changed.
        jobs: Number of processes; 0 checks in this one. Defaults to None, the processors, but at
            most 8.
        progress: Wraps the iteration over the samples of a split; gets their number as well.

    Raises:
        ValueError: The config has no data.
    """
    jobs = min(8, os.cpu_count() or 1) if jobs is None else jobs
    report = DataReport()
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    wanted = [split for split in SPLITS if cfg.get(f'{split}_dataloader') is not None]
    if not wanted:
        raise ValueError('the config has no train_dataloader, val_dataloader or test_dataloader')
    for split in wanted:
        try:
            with explained(cfg):
                dataset = split_dataset(cfg, split)
        except (ConfigError, OSError, ValueError) as error:
            report.findings.append(Finding('data set', split, str(error)))
            continue
        found = SplitReport(dataset, list(_members(dataset)))
        found.classes = [*map(str, meaning_of_labels(dataset).get('classes', ()))]
        found.same_as = _same_members(found, report.splits)
        if found.same_as:
            found.samples = report.splits[found.same_as].samples
        else:
            found.samples = _check(found, jobs, progress)
        report.splits[split] = found
        report.findings += _of_split(split, found)
    report.findings += _of_all(report)
    return report


def _members(dataset: Any) -> Iterator[tuple[Any, int]]:
    """Every sample below wrappers, once."""
    seen = set()
    for leaf in leaves(dataset):
        for index in range(len(leaf)):
            info = leaf.get_data_info(index)
            key = (info.get('img_path'), info.get('seg_map_path'), str(info.get('gt_label')))
            if key not in seen or key[0] is None:
                seen.add(key)
                yield leaf, index


def _same_members(found: SplitReport, earlier: dict[str, SplitReport]) -> str | None:
    def files(report: SplitReport) -> list[tuple]:
        infos = [leaf.get_data_info(index) for leaf, index in report.members]
        return [(info.get('img_path'), info.get('seg_map_path')) for info in infos]

    mine = files(found)
    return next(
        (split for split, other in earlier.items() if files(other) == mine and split != 'train'),
        None,
    )


def _check(found: SplitReport, jobs: int, progress: Progress) -> list[Sample]:
    checks = _Checks(found.members, len(found.classes) or None)
    loader = DataLoader(
        checks,
        batch_size=BATCH,
        num_workers=min(jobs, -(-len(checks) // BATCH)),
        collate_fn=list,
        worker_init_fn=_be_quiet,
    )
    samples = (sample for batch in loader for sample in batch)
    return list(progress(samples, len(checks)))


def _be_quiet(_: int) -> None:
    """Silence libjpeg and libpng, which print warnings without the name of the file."""
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _of_split(split: str, found: SplitReport) -> Iterator[Finding]:
    if not found.same_as:
        folders = (passed_over(leaf) for leaf in leaves(found.dataset))
        yield from dict.fromkeys(one for files in folders for one in _of_folder(split, files))
        for sample in found.samples:
            for kind, text, file in sample.notes:
                yield Finding(kind, split, text, file)
    yield from _of_labels(split, found)


def _of_folder(split: str, files: PassedOver | None) -> Iterator[Finding]:
    if files is None:
        return
    for link in files.dead_links:
        yield Finding('missing', split, DEAD_LINK, link)
    if files.suffixes or files.without_mask:
        yield Finding('passed over', split, str(files), files.folder)


def _of_labels(split: str, found: SplitReport) -> Iterator[Finding]:
    """Count the labels, and judge them as a training does."""
    labels = [label for sample in found.samples for label in sample.labels]
    masks = [(str(s.mask), s.counts) for s in found.samples if s.counts is not None]
    number = len(found.classes) or max([*labels, -1]) + 1
    if not number or not (labels or masks):
        return
    ignored = getattr(leaves(found.dataset)[0], 'ignore_index', None) if masks else None
    counts = LabelCounts(split, number, ignored, found.classes or None)
    total = sum((pixels for _, pixels in masks), np.zeros(256, np.int64))
    counts.counts[:number] += torch.bincount(
        torch.tensor([label for label in labels if 0 <= label < number], dtype=torch.int64),
        minlength=number,
    )
    counts.counts[:number] += torch.from_numpy(total[:number])
    if ignored is not None:
        counts.counts[-1] += int(total[ignored])
        counts.reduced = bool(getattr(leaves(found.dataset)[0], 'reduce_zero_label', False))
        counts.file = next((file for file, pixels in masks if pixels[ignored]), None)
    found.counts = counts.counts[:-1].tolist()
    found.classes = counts.classes
    error, warning = counts.judge(complete=True)
    if error:
        yield Finding('labels', split, error)
    if warning:
        yield Finding('class without samples', split, warning)


def _of_all(report: DataReport) -> Iterator[Finding]:
    names = [*report.splits]
    for split in names[1:]:
        sentence = difference(
            meaning_of_labels(report.splits[split].dataset),
            meaning_of_labels(report.splits[names[0]].dataset),
            f'the {split} data set',
            f'the {names[0]} data set',
        )
        if sentence:
            yield Finding('class names', split, sentence)
    yield from _doubles(report)


def _doubles(report: DataReport) -> Iterator[Finding]:
    """Images of the same pixels, in two splits or in one."""
    places: defaultdict[bytes, list[tuple[str, Sample]]] = defaultdict(list)
    for split, found in report.splits.items():
        for sample in [] if found.same_as else found.samples:
            if sample.digest is not None:
                places[sample.digest].append((split, sample))
    for same in places.values():
        for place, (other_split, other) in enumerate(same[1:], 1):
            earlier = (pair for pair in same[:place] if pair[1].image == other.image)
            split, first = next(earlier, same[0])
            text = f'its pixels are those of {first.image} in {split}'
            if other.image == first.image:
                text = f'it is in {split} as well'
            if other_split != split:
                both = f'{split}, {other_split}'
                yield Finding('same in two splits', both, text, other.image)
            elif other.labels != first.labels:
                text = f'{text}, but its class is another'
                yield Finding('two classes', split, text, other.image)
            else:
                yield Finding('same in a split', split, text, other.image)
