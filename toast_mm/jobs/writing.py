"""Writing a short config that tunes a backbone on your own data."""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log

from toast_mm.arguments import check_call
from toast_mm.engine.config import ConfigError, read_config
from toast_mm.files import make_folder, write_atomically
from toast_mm.outputs import check_free

from .bases import find_base
from .choices import Choices
from .layouts import read_layout
from .methods import check_method
from .settings import job_settings
from .text import statement


@check_call
def job_config(
    backbone: str,
    data: str | Path,
    method: str = 'toast',
    out: str | Path | None = None,
    *,
    image_size: int | None = None,
    epochs: int | None = None,
    max_iters: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    flip: bool = True,
    checkpoint: str | None = None,
    pretuned: str | None = None,
    held_out: float = 0.2,
    seed: int = 0,
    overwrite: bool = False,
) -> Config:
    """Write a config that tunes a backbone on your own data, and read it.

    The config inherits base configs of this package, and names what differs. ``tools/train.py``
    trains it. If the data has no ``val``, a share of the training images is drawn from every class,
    and lists of both stand next to the config. The folder of the data is only read.

    Args:
        backbone: Name of a base config or its beginning, such as ``'vit-1m'``, or of a model of
            timm, such as ``'vit_base_patch14_reg4_dinov2.lvd142m'``.
        data: Folder with a folder of images per class, or with ``images``, ``annotations`` and
            ``classes.txt``; see :func:`~toast_mm.jobs.read_layout`.
        method: ``'toast'``, with the route of the base config, or the name of a method in
            ``configs/fgvc``. Defaults to ``'toast'``.
        out: Config to write. Defaults to ``work_dirs/NAME/NAME.py`` with the :func:`job_name`.
        image_size: Side of the images; for segmentation, of the crops, and the shorter side of
            whole images. Defaults to that of the backbone.
        epochs: Passes over the data, for classification. Defaults to those of the schedule, and
            more for few images.
        max_iters: Steps, for segmentation. Defaults to those of the schedule.
        batch_size: Images per step.
        lr: Learning rate. Defaults to that of the method.
        flip: Whether images are flipped at random; False where left and right differ, as in text.
        checkpoint: Weights of the backbone, in place of those of the base config.
        pretuned: Pre-tuned top-down module. Defaults to one of this package, if there is one.
        held_out: Share of the training images to validate on if the data has no ``val``.
        seed: Seed of the split and of the training.
        overwrite: Whether the config and the lists may exist.

    Raises:
        ConfigError: A name is unknown, or a setting does not fit the others.
        DataError: The data cannot be used; the message names the folder or file.
        TypeError: An argument is of another type.
        WriteError: The config or a list exists already, or cannot be written.

    Example:
        >>> cfg = job_config('vit-1m', 'flowers', 'lora', epochs=50)
        >>> cfg.model.head.num_classes
        3
    """
    out = Path(os.path.abspath(out or default_config(backbone, data, method)))
    choices = Choices(
        image_size, epochs, max_iters, batch_size, lr, flip, checkpoint, pretuned, held_out, seed
    )
    text, lists = job_text(backbone, data, method, out, choices)
    check_free([out, *lists], [], overwrite, new_folders=True)
    make_folder(out.parent)
    for path, content in lists.items():
        make_folder(path.parent)
        write_atomically(content.encode(), str(path))
    write_atomically(text.encode(), str(out))
    return read_config(str(out))


def job_text(
    backbone: str, data: str | Path, method: str, out: Path, choices: Choices
) -> tuple[str, dict[Path, str]]:
    """Text of a job, and texts of its lists of images by file.

    Raises:
        ConfigError: A name is unknown, or a setting does not fit the others.
        DataError: The data cannot be used.
    """
    if out.suffix != '.py':
        raise ConfigError(f'the config {out} must end in .py')
    if out.stem in sys.stdlib_module_names:
        raise ConfigError(f'the config {out} has the name of a module of Python: choose another')
    check_method(method)
    own = read_layout(data, choices.held_out, choices.seed)
    for note in own.notes:
        print_log(note, 'current', logging.WARNING)
    base = find_base(backbone, own.task)
    lists = out.with_name(f'{out.stem}_lists')
    settings = job_settings(base, own, method, lists, choices)
    title = f'# {" ".join(f"{method} on {base.name}: {own}".split())}\n\n'
    text = title + ''.join(f'{statement(name, value)}\n' for name, value in settings.items())
    return text, {
        lists / f'{split}.txt': ''.join(f'{line}\n' for line in lines)
        for split, lines in ({} if own.folders else own.samples).items()
    }


def job_name(backbone: str, data: str | Path, method: str) -> str:
    """Name of a job: method, backbone and folder of the data, without what paths should lack."""
    name = f'{method}_{backbone}_{os.path.basename(os.path.abspath(data))}'
    return re.sub(r'[^\w-]+', '-', name)


def default_config(backbone: str, data: str | Path, method: str) -> Path:
    """Where a job is written if nobody says so."""
    name = job_name(backbone, data, method)
    return Path('work_dirs', name, f'{name}.py')
