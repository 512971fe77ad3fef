"""Deciding, before anything is written, which images go where."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from toast_mm.conversion.classes import number_classes, read_classes
from toast_mm.conversion.images import ImageFile, look_at
from toast_mm.conversion.items import Annotations, ConversionError, Item
from toast_mm.conversion.options import Options
from toast_mm.conversion.painting import check_size
from toast_mm.conversion.splitting import SPLITS, group_names, split_at_random

PNG = '.png'


@dataclass
class Planned:
    """An image with its place in the target."""

    item: Item
    file: ImageFile
    split: str
    suffix: str
    kept: bool


@dataclass
class Plan:
    """What is to be written.

    Attributes:
        task: ``'classification'`` or ``'segmentation'``.
        images: The images.
        numbers: Number of every class; of a segmentation, ignored labels have 255.
        notes: What a user should know.
    """

    task: str
    images: list[Planned]
    numbers: dict[str, int]
    notes: list[str] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        """Names of the classes in order."""
        return [name for name, number in self.numbers.items() if number < 255]


def make_plan(found: Annotations, options: Options) -> Plan:
    """Decide which images go where. What is left out is added to ``found.skipped``.

    Raises:
        ConversionError: Nothing is left, the settings do not fit the annotations, or a label is
            unknown.
    """
    task = options.task or _task(found)
    notes: list[str] = []
    items = _annotated(found, task, options)
    numbers = _numbers(found, items, task, options, notes)
    if task == 'classification':
        known = [item for item in items if item.label in numbers]
        for item in items:
            if item.label not in numbers:
                found.skip(item.image, f'its class {item.label!r} is not in {options.classes}')
        items = known
    files = _openable(found, items, options, task, notes)
    if not files:
        raise ConversionError('\n'.join(['no image is left', *_reasons(found)]))
    _name_apart(files, task, notes)
    splits = _splits([item for item, _ in files], options, notes)
    only = _one_suffix(files, notes) if task == 'segmentation' else None
    images = []
    for (item, file), split in zip(files, splits, strict=True):
        suffix = only or file.suffix
        images.append(Planned(item, file, split, suffix, file.as_is and suffix == file.suffix))
    return Plan(task, images, numbers, notes)


def _task(found: Annotations) -> str:
    has = {
        'segmentation': any(item.layers for item in found.items),
        'classification': any(item.label is not None for item in found.items),
    }
    tasks = [task for task, there in has.items() if there]
    if len(tasks) > 1:
        raise ConversionError(
            'there are classes of images and annotations of areas: choose by --task'
        )
    if not tasks:
        raise ConversionError('\n'.join(['there is no annotation', *_reasons(found)]))
    return tasks[0]


def _reasons(found: Annotations) -> list[str]:
    reasons = [f'{skipped.what}: {skipped.why}' for skipped in found.skipped[:10]]
    more = len(found.skipped) - len(reasons)
    return reasons + [f'and {more} more'] * (more > 0)


def _annotated(found: Annotations, task: str, options: Options) -> list[Item]:
    items = []
    for item in found.items:
        if task == 'classification':
            empty = item.label is None
        else:
            empty = not item.layers and options.unannotated == 'skip'
        if empty:
            advice = '' if task == 'classification' else ' (--unannotated background keeps it)'
            found.skip(item.image, f'it has no annotation{advice}')
        else:
            items.append(item)
    return items


def _numbers(
    found: Annotations, items: list[Item], task: str, options: Options, notes: list[str]
) -> dict[str, int]:
    labels = Counter(label for item in items for label in _labels(item, task))
    order = found.classes if task == 'segmentation' else []
    background = options.background if task == 'segmentation' else None
    if options.classes is None:
        unused = [name for name in order if name not in labels and name not in options.ignored]
        if unused:
            notes.append(f'no image has {", ".join(unused)}')
        return number_classes(labels, order, background, options.ignored)
    listed = read_classes(options.classes)
    found.colours = {name: colour for name, colour in listed.items() if colour is not None}
    names = [name for name in listed if name not in options.ignored]
    if task == 'classification' and names != sorted(names):
        raise ConversionError(
            f'{options.classes} is not sorted, but classes that are folders are numbered by name'
        )
    known = {*names, *options.ignored, background}
    if unknown := {label: n for label, n in labels.items() if label not in known}:
        which = ', '.join(f'{label!r} in {n} images' for label, n in sorted(unknown.items()))
        if options.unknown == 'error':
            first = next(item for item in items if {*_labels(item, task)} & {*unknown})
            raise ConversionError(
                f'{options.classes} lacks {which}; the first is in {first.source}. '
                '--unknown skip leaves them out'
            )
        notes.append(f'unknown: {which}')
    unused = [name for name in names if name not in labels and name != background]
    if unused:
        notes.append(f'no image has {", ".join(unused)}')
    if background in names:
        names.remove(background)
    ignored = [*options.ignored, *(unknown if options.unknown == 'ignore' else ())]
    return number_classes((), names, background, ignored)


def _labels(item: Item, task: str) -> set[str]:
    if task == 'classification':
        return {item.label} if item.label is not None else set()
    return {label for layer in item.layers for label in layer.labels()}


def _openable(
    found: Annotations, items: list[Item], options: Options, task: str, notes: list[str]
) -> list[tuple[Item, ImageFile]]:
    files = []
    turned = 0
    for item in items:
        try:
            file = look_at(item.image)
            if task == 'segmentation':
                check_size(item, file, options.orientation == 'stored')
        except ConversionError as error:
            found.skip(item.image, str(error))
            continue
        turned += file.orientation > 1
        files.append((item, file))
    if turned and task == 'segmentation':
        notes.append(
            f'{turned} images are turned by their EXIF orientation; their annotations are taken '
            f'for images as {options.orientation} (--exif), and masks fit what mmcv reads'
        )
    return files


def _name_apart(files: list[tuple[Item, ImageFile]], task: str, notes: list[str]) -> None:
    """Give images that would get the same name different ones."""
    taken: set[tuple[str | None, str]] = set()
    changed = 0
    for item, _ in files:
        folder = item.label if task == 'classification' else None
        name, number = item.name, 2
        while (folder, item.name.lower()) in taken:  # some file systems ignore case
            item.name = f'{name}_{number}'
            number += 1
            changed += number == 3
        taken.add((folder, item.name.lower()))
    if changed:
        notes.append(f'{changed} images of equal names got a number behind theirs')


def _splits(items: list[Item], options: Options, notes: list[str]) -> list[str]:
    given = [item.split for item in items if item.split is not None]
    groups = group_names([item.name for item in items], options.group)
    if given and len(given) < len(items):
        item = next(item for item in items if item.split is None)
        raise ConversionError(f'some images have a split, but {item.source} has none')
    splits = given or split_at_random(
        groups, [item.labels() for item in items], options.fractions, options.seed
    )
    if options.group:
        of_group = dict(zip(groups, splits, strict=True))
        torn = next((g for g, s in zip(groups, splits, strict=True) if of_group[g] != s), None)
        if torn is not None:
            raise ConversionError(f'the annotations put images of group {torn!r} into two splits')
    wanted = {*given} if given else {split for split in SPLITS if options.fractions[split] > 0}
    if empty := sorted(wanted - {*splits}):
        number, advice = len({*groups}), 'choose a larger share, or 0'
        if options.group and number < len(wanted):
            advice = f'{len(wanted)} splits need as many groups, '
            advice += f'--group {options.group!r} makes {number}'
        raise ConversionError(f'{len(items)} images leave none for {", ".join(empty)}: {advice}')
    return splits


def _one_suffix(files: list[tuple[Item, ImageFile]], notes: list[str]) -> str:
    """The suffix of all images of a segmentation, since its data set reads only one."""
    suffixes = Counter(file.suffix for _, file in files)
    if len(suffixes) == 1:
        return next(iter(suffixes))
    kinds = ', '.join(f'{number} {suffix}' for suffix, number in suffixes.most_common())
    notes.append(f'images are of several formats ({kinds}): all become PNG files')
    return PNG
