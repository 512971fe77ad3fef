"""Tuning a backbone on a folder of images in one call."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from toast_mm.arguments import check_call
from toast_mm.engine import parameter_table
from toast_mm.engine.config import ConfigError, near_names, read_config
from toast_mm.engine.explain import explained
from toast_mm.engine.resumption import latest_checkpoint
from toast_mm.engine.runner import build_runner
from toast_mm.files import WriteError
from toast_mm.jobs import job_config, job_name
from toast_mm.jobs.choices import Choices
from toast_mm.jobs.writing import job_text

from .loading import load
from .predictor import Predictor


@check_call
def fit(
    backbone: str,
    data: str | Path,
    method: str = 'toast',
    work_dir: str | Path | None = None,
    *,
    resume: bool = False,
    **settings: Any,
) -> Predictor:
    """Tune a backbone on your own data.

    It writes a short config (:func:`~toast_mm.apis.job_config`), trains it as
    ``tools/train.py`` does, and prints where the config and the task file are. The task file holds
    what was tuned, without the backbone.

    Args:
        backbone: Name of a base config or of a model of timm, as for ``job_config``.
        data: Folder with a folder of images per class, or of images and masks.
        method: Name of the method. Defaults to ``'toast'``.
        work_dir: Folder for the config, logs and task files. Defaults to ``work_dirs/`` and the
            method, backbone and data.
        resume: Whether to continue an interrupted training in ``work_dir``, with the same settings.
        **settings: Other arguments of ``job_config``, such as ``epochs`` or ``lr``.

    Returns:
        What ``toast_mm.apis.load`` returns for the task file.

    Raises:
        ConfigError: A name is unknown, a setting does not fit the others, or a training that is
            resumed had others.
        DataError: The data cannot be used; the message names the folder or file.
        TypeError: An argument is of another type.
        WriteError: The folder holds a training already, which is not resumed.

    Example:
        >>> predictor = fit('vit-1m', 'flowers')
        >>> predictor.predict('photograph.jpg')[0].label
        'rose'
    """
    start = time.monotonic()
    known = [field.name for field in fields(Choices)]
    if unknown := [name for name in settings if name not in known]:
        near = near_names(unknown[0], known)
        raise ConfigError(f'fit has no setting {unknown[0]}; there are {", ".join(known)}{near}')
    folder = Path(work_dir or Path('work_dirs', job_name(backbone, data, method)))
    path = Path(os.path.abspath(folder / f'{folder.resolve().name}.py'))
    if path.exists():
        if not resume:
            raise WriteError(
                f'{folder} holds a training already: choose another work_dir, or continue it with '
                'resume=True'
            )
        cfg = _same_job(path, backbone, data, method, settings)
    else:
        cfg = job_config(backbone, data, method, path, **settings)
    print(f'Config: {path}\n\n{path.read_text(encoding="utf-8")}')
    cfg.work_dir, cfg.resume = str(folder), resume
    with explained(cfg):
        runner = build_runner(cfg)
        runner.logger.info(f'Parameters:\n{parameter_table(runner.model)}')
        try:
            runner.train()
        except KeyboardInterrupt:
            print(f'\nInterrupted: resume=True continues from the newest checkpoint in {folder}')
            raise
        scores = _scores(runner)
    task_file = Path(os.path.abspath(str(latest_checkpoint(str(folder)))))
    size = task_file.stat().st_size / 2**20
    print(
        f'\nDone in {time.monotonic() - start:.0f} s: {scores}\n'
        f'Config:    {path}\nTask file: {task_file} ({size:.2f} MiB)'
    )
    return load(str(path), str(task_file))


def _same_job(
    path: Path, backbone: str, data: str | Path, method: str, settings: Mapping[str, Any]
) -> Config:
    """Read the config of a training that is resumed.

    Raises:
        ConfigError: It is not the one that the arguments give.
    """
    text, _ = job_text(backbone, data, method, path, Choices(**settings))
    if text != path.read_text(encoding='utf-8'):
        raise ConfigError(
            f'{path} was made from other data or with other settings, so it cannot be resumed with '
            'these; to resume a config that you have changed, use tools/train.py --resume'
        )
    return read_config(str(path))


def _scores(runner: Runner) -> str:
    """The result on the validation data, or on the test data if there are others, in words."""
    apart = runner.cfg.test_dataloader != runner.cfg.val_dataloader
    metrics = runner.test() if apart else runner.val()
    loop = runner.test_loop if apart else runner.val_loop
    name, key = next(item for item in _METRICS.items() if item[1] in metrics)
    kind = 'test' if apart else 'validation'
    return f'{name} {metrics[key]:.1f} on {len(loop.dataloader.dataset)} {kind} images'


_METRICS = {'accuracy': 'accuracy/top1', 'mIoU': 'mIoU'}
