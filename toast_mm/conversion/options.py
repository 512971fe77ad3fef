"""What all converters can be told."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toast_mm.conversion.items import ConversionError
from toast_mm.conversion.splitting import SPLITS
from toast_mm.outputs import add_overwrite

TASKS = ('classification', 'segmentation')
UNKNOWN = ('error', 'skip', 'ignore')
UNANNOTATED = ('skip', 'background')
ORIENTATIONS = ('displayed', 'stored')


@dataclass
class Options:
    """Settings of a conversion.

    Attributes:
        task: One of :data:`TASKS`; None takes what the annotations are for.
        classes: File of the classes, in their order; None takes the order of the format, or of the
            names.
        background: Class 0 of a segmentation, which pixels without annotation belong to. None
            ignores them, and the first class is 0.
        ignored: Labels whose pixels are ignored (255).
        unknown: What happens to labels that are not in ``classes``: one of :data:`UNKNOWN`.
        unannotated: What happens to images without annotation: one of :data:`UNANNOTATED`.
        val: Share of the validation images.
        test: Share of the test images.
        seed: Seed of the split.
        group: Regular expression whose first group names what must stay in one split.
        orientation: What coordinates refer to if an image has an EXIF orientation: one of
            :data:`ORIENTATIONS`.
        link: Make links to images in place of copies.
        overwrite: Replace an earlier conversion.
    """

    task: str | None = None
    classes: Path | None = None
    background: str | None = 'background'
    ignored: Sequence[str] = ()
    unknown: str = 'error'
    unannotated: str = 'skip'
    val: float = 0.1
    test: float = 0.1
    seed: int = 0
    group: str | None = None
    orientation: str = 'displayed'
    link: bool = False
    overwrite: bool = False
    fractions: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        train = 1 - self.val - self.test
        if not (self.val >= 0 and self.test >= 0 and train > 1e-9):
            raise ConversionError(
                f'shares of {self.val:g} for validation and {self.test:g} for testing leave '
                f'{train:g} for training'
            )
        self.fractions = dict(zip(SPLITS, (train, self.val, self.test), strict=True))


def add_options(
    parser: argparse.ArgumentParser, tasks: Sequence[str] = TASKS, palette: bool = False
) -> None:
    """Add the target and the settings that fit the tasks of a format.

    Args:
        parser: Gets the arguments.
        tasks: The tasks that the format has annotations for.
        palette: Whether the format has a file of classes and colours, which covers every pixel.
    """
    add = parser.add_argument
    add('target', type=Path, help='folder for the data set')
    if len(tasks) > 1:
        add('--task', choices=tasks, help='default: what the annotations are for')
    if palette:
        parser.set_defaults(background=None)
    else:
        add('--classes', type=Path, metavar='FILE', help='a class per line: name, or name R G B')
        add(
            '--unknown',
            choices=UNKNOWN if 'segmentation' in tasks else UNKNOWN[:2],
            default='error',
            help='labels that --classes does not have; default: error',
        )
    if 'segmentation' in tasks and not palette:
        add(
            '--background',
            default='background',
            metavar='NAME',
            help='class 0, of all pixels without annotation; default: background',
        )
        add(
            '--no-background',
            dest='background',
            action='store_const',
            const=None,
            help='ignore pixels without annotation (255); the first class is 0',
        )
        add(
            '--unannotated',
            choices=UNANNOTATED,
            default='skip',
            help='images without annotation; default: skip, and list them',
        )
    if 'segmentation' in tasks:
        add(
            '--ignored',
            nargs='+',
            default=(),
            metavar='LABEL',
            help='labels that become 255, ignored',
        )
        add(
            '--exif',
            dest='orientation',
            choices=ORIENTATIONS,
            default='displayed',
            help='what coordinates refer to if an image is turned by its EXIF orientation; '
            'default: displayed, as annotation tools show it',
        )
    add('--val', type=float, default=0.1, metavar='SHARE', help='default: 0.1')
    add('--test', type=float, default=0.1, metavar='SHARE', help='default: 0.1')
    add('--seed', type=int, default=0, help='seed of the split; default: 0')
    add(
        '--group',
        metavar='REGEX',
        help='its first group, in names of images, names what stays in one split, such as '
        r"'(.+)_\d+' for frames of a video",
    )
    add('--link', action='store_true', help='make links to images, not copies')
    add_overwrite(parser)


def options_of(args: argparse.Namespace) -> Options:
    """The settings that a command line gives."""
    known: dict[str, Any] = {
        name: value
        for name, value in vars(args).items()
        if name in Options.__dataclass_fields__ and name != 'fractions'
    }
    return Options(**known)
