"""Writing a data set that mmpretrain's ``CustomDataset`` or mmseg's ``BaseSegDataset`` reads.

::

    classification:  TARGET/{train,val,test}/CLASS/NAME.jpg
    segmentation:    TARGET/images/{train,val,test}/NAME.jpg
                     TARGET/annotations/{train,val,test}/NAME.png    0, 1, ...; 255 is ignored
                     TARGET/classes.txt                              a class per line, in order

``TARGET/conversion.json`` records what was written and left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image

from toast_mm.conversion.classes import IGNORED, lines_of
from toast_mm.conversion.images import copy_image
from toast_mm.conversion.items import Annotations, ConversionError, Skipped
from toast_mm.conversion.options import Options
from toast_mm.conversion.painting import Mask, paint
from toast_mm.conversion.plan import Plan, Planned, make_plan
from toast_mm.conversion.splitting import SPLITS
from toast_mm.files import WriteError, make_folder, write_atomically

RECORD = 'conversion.json'
CLASSES = 'classes.txt'

_OVERLAPS = {
    'outside': '{} annotations reach beyond their images; what is outside is cut off',
    'nothing': '{} annotations cover no pixel of their images',
    'covered': '{} pixels had two classes; the later annotation covers the earlier one',
}

Progress = Callable[[Iterable[Any], int], Iterable[Any]]


@dataclass
class Report:
    """What a conversion wrote.

    Attributes:
        task: ``'classification'`` or ``'segmentation'``.
        classes: Names of the classes in order.
        images: Number of images by split.
        per_class: By split, the number of images of every class; of a segmentation, with it.
        pixels: By split, the number of pixels of every class, and of ignored ones as ``'255'``.
        overlaps: Number of annotations that reach outside their image or cover nothing, and of
            pixels with several classes.
        notes: What a user should know.
        skipped: What was left out.
        complete: False while files are written.
        files: All files, relative to the target.
    """

    task: str
    classes: list[str]
    images: dict[str, int] = field(default_factory=dict)
    per_class: dict[str, dict[str, int]] = field(default_factory=dict)
    pixels: dict[str, dict[str, int]] = field(default_factory=dict)
    overlaps: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_OVERLAPS, 0))
    notes: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    complete: bool = False
    files: list[str] = field(default_factory=list)


def convert(
    found: Annotations,
    target: Path,
    options: Options | None = None,
    progress: Progress = lambda images, total: images,
) -> Report:
    """Write a data set.

    Args:
        found: What a reader found.
        target: Folder of the data set.
        options: Settings. Defaults to those of :class:`Options`.
        progress: Wraps the iteration over the images; gets their number as well.

    Raises:
        ConversionError: The annotations cannot be converted.
        WriteError: A file would be replaced, or cannot be written.

    Example:
        >>> report = convert(read_coco(Path('coco.json'), Path('photos')), Path('data/streets'))
        >>> report.images
        {'train': 80, 'val': 10, 'test': 10}
    """
    options = options or Options()
    plan = make_plan(found, options)
    files = {id(image): _files(target, plan, image) for image in plan.images}
    names = [str(path.relative_to(target)) for paths in files.values() for path in paths]
    if plan.task == 'segmentation':
        names.append(CLASSES)
    _check_target(target, [image.item.image for image in plan.images], options.overwrite)
    report = Report(plan.task, plan.classes, notes=plan.notes, files=names)
    _record(target, report)
    if plan.task == 'classification':  # a missing folder would change the numbers of classes
        for split, name in product({image.split for image in plan.images}, plan.classes):
            make_folder(target / split / name)

    def write(image: Planned) -> Mask | ConversionError | None:
        try:
            return _write(image, files[id(image)], plan, options)
        except ConversionError as error:
            return error

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = progress(pool.map(write, plan.images), len(plan.images))
        for image, result in zip(plan.images, results, strict=True):
            if isinstance(result, ConversionError):
                found.skip(image.item.image, str(result))
                for path in files[id(image)]:
                    path.unlink(missing_ok=True)
                    report.files.remove(str(path.relative_to(target)))
            else:
                _count(report, image, result, plan)
    if not report.images:
        raise ConversionError(
            f'no image is left; {found.skipped[-1].what}: {found.skipped[-1].why}'
        )
    _note_overlaps(report)
    if plan.task == 'segmentation':
        text = lines_of(plan.classes, {options.background or '': (0, 0, 0), **found.colours})
        write_atomically(text.encode(), str(target / CLASSES))
    report.skipped = found.skipped
    report.complete = True
    _record(target, report)
    return report


def _files(target: Path, plan: Plan, image: Planned) -> list[Path]:
    """The image, and its mask if it has one."""
    item = image.item
    if plan.task == 'classification':
        label = str(item.label)
        if label in ('.', '..') or '/' in label or '\\' in label:
            raise ConversionError(f'{item.source}: the class {label!r} cannot be a folder')
        return [target / image.split / label / f'{item.name}{image.suffix}']
    return [
        target / 'images' / image.split / f'{item.name}{image.suffix}',
        target / 'annotations' / image.split / f'{item.name}.png',
    ]


def _check_target(target: Path, sources: list[Path], overwrite: bool) -> None:
    """Check that the target is empty, or empty it of an earlier conversion."""
    before = [path for path in target.rglob('*') if path.is_symlink() or not path.is_dir()]
    if not before:
        return
    if not overwrite:
        raise WriteError(
            f'{target} has {len(before)} files, such as {min(before)}: choose another folder, or '
            'add --overwrite to replace an earlier conversion'
        )
    try:
        written = {*json.loads((target / RECORD).read_text())['files'], RECORD}
    except (OSError, LookupError, TypeError, ValueError):
        written = set()
    others = [path for path in before if str(path.relative_to(target)) not in written]
    if others:
        raise WriteError(
            f'{target} has {len(others)} files that no conversion wrote, such as {min(others)}: '
            'choose another folder'
        )
    inputs = {path.resolve() for path in sources}
    for path in before:
        if not path.is_symlink() and path.resolve() in inputs:
            raise WriteError(f'{path} is read, and would be removed: choose another folder')
    for path in before:
        path.unlink()
    for folder in sorted(target.rglob('*'), reverse=True):
        folder.rmdir()  # a folder would be a class


def _record(target: Path, report: Report) -> None:
    make_folder(target)
    content = json.dumps(asdict(report), indent=1, ensure_ascii=False)
    write_atomically(content.encode(), str(target / RECORD))


def _write(image: Planned, files: list[Path], plan: Plan, options: Options) -> Mask | None:
    mask = None
    if plan.task == 'segmentation':
        blank = IGNORED if options.background is None else 0
        stored = options.orientation == 'stored'
        mask = paint(image.item, image.file, plan.numbers, blank, stored)
        make_folder(files[1].parent)
        Image.fromarray(mask.pixels).save(files[1])
    copy_image(image.item.image, files[0], image.kept, options.link)
    return mask


def _count(report: Report, image: Planned, mask: Mask | None, plan: Plan) -> None:
    split = image.split
    report.images[split] = report.images.get(split, 0) + 1
    of_class = report.per_class.setdefault(split, dict.fromkeys(plan.classes, 0))
    if mask is None:
        of_class[str(image.item.label)] += 1
        return
    names = [*plan.classes]
    pixels = report.pixels.setdefault(split, {**dict.fromkeys(names, 0), str(IGNORED): 0})
    for number, count in mask.counts.items():
        pixels[str(IGNORED) if number == IGNORED else names[number]] += count
        if number != IGNORED:
            of_class[names[number]] += 1
    for key in _OVERLAPS:
        report.overlaps[key] += getattr(mask, key)


def _note_overlaps(report: Report) -> None:
    report.images = {split: report.images[split] for split in SPLITS if split in report.images}
    for key, text in _OVERLAPS.items():
        if number := report.overlaps[key]:
            report.notes.append(text.format(number))
    for split in report.images:
        if empty := [name for name, n in report.per_class[split].items() if not n]:
            report.notes.append(f'{split} has no image with {", ".join(empty)}')
