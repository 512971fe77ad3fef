"""Results of trainings, read from their folders."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log

from toast_mm.config_text import read_settings
from toast_mm.engine.hooks.tuned_parameters_hook import TUNED
from toast_mm.engine.model import backbone_of, build_model
from toast_mm.trust import WAY_OUT, is_trusted

from .sweep import read_records

# Names as in mmpretrain and mmseg: method_backbone_schedule_data-size, then the data set if DATASET
# names one; and for segmentation method-backbone_head_schedule_data-size.
_CLASSIFICATION = re.compile(
    r'(?P<method>[^_]+)_(?P<backbone>[^_]+)_.*?(?P<data>[^_]+?)(-\d+x\d+)?'
)
_SEGMENTATION = re.compile(
    r'(?P<method>[^_]+?)-(?P<backbone>(vit|convnext)-[^_]+)(_upernet)?'
    r'_\d+xb\d+-\d+[ek]?_(?P<data>[^_]+?)(-\d+x\d+)?(_slide)?'
)
# The model card names this one.
_CARD = {'ade20k_toast_upernet': dict(method='toast', backbone='vit-b16', data='ade20k')}


@dataclass(frozen=True)
class Result:
    """One training.

    Attributes:
        method: Transfer method.
        backbone: Backbone and its pre-training data.
        data: Data set, or task.
        seed: Seed of the training.
        value: Metric of the last validation.
        tuned: Number of tuned parameters without the head.
    """

    method: str
    backbone: str
    data: str
    seed: int
    value: float
    tuned: int | None


def read_results(folder: str | Path, metric: str) -> list[Result]:
    """Read the results in a work directory of a sweep (with ``runs.jsonl``) or of one training.

    Raises:
        FileNotFoundError: There is no such folder, or no training in it.
        ValueError: A training was interrupted.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder} is not a folder')
    results = list(
        _sweep(folder, metric) if (folder / 'runs.jsonl').exists() else _job(folder, metric)
    )
    if not results:
        raise FileNotFoundError(
            f'{folder} holds neither final runs in runs.jsonl nor a training that validated '
            f'{metric}'
        )
    return results


def _sweep(folder: Path, metric: str) -> Iterator[Result]:
    """Results of the last run of every name; earlier ones had other settings."""
    records = {record['name']: record for record in read_records(folder / 'runs.jsonl')}
    for record in records.values():
        if record.get('phase') == 'final' and metric in record['metrics']:
            names = _names(record['job'])
            names['data'] = record.get('task', names['data'])
            value = record['metrics'][metric]
            yield Result(**names, seed=record['seed'], value=value, tuned=record['tuned'])


def _job(folder: Path, metric: str) -> Iterator[Result]:
    """Result of the newest training in a folder; a resumed training has a new log."""
    for log in sorted(folder.glob('*/vis_data/scalars.json'), reverse=True):
        values = [record for record in read_records(log) if metric in record]
        if values:
            config = log.with_name('config.py')
            settings = read_settings(config.read_text())  # not run: it may be somebody else's
            if not isinstance(settings.get('train_cfg'), dict):
                raise ValueError(
                    f'{config} has no plain train_cfg as mmengine writes it; it is not run, since '
                    'it may hold any code: give the work directory of a training'
                )
            loop = settings['train_cfg']
            end = loop.get('max_epochs') or loop.get('max_iters') or 0
            if values[-1].get('step', end) < end:
                raise ValueError(
                    f'{folder} holds an interrupted training: its last validation is at step '
                    f'{values[-1]["step"]} of {end}; continue it with --resume'
                )
            seed = (settings.get('randomness') or {}).get('seed') or 0
            names = _names(folder.name)
            yield Result(**names, seed=seed, value=values[-1][metric], tuned=_tuned(log))
            return


def _tuned(log: Path) -> int | None:
    """Number of tuned parameters that the runner wrote; if it did not, None and a warning."""
    note = log.with_name(TUNED)
    if note.is_file():
        return int(json.loads(note.read_text())['backbone'])
    config = log.with_name('config.py')
    if is_trusted():
        return tuned_parameters(Config.fromfile(config))
    print_log(
        f'The number of tuned parameters is not known: {note} is missing, which '
        f'TunedParametersHook writes; the model of {config.name} is not built, since a config may '
        f'hold any code; {WAY_OUT}',
        'current',
        logging.WARNING,
    )
    return None


def tuned_parameters(cfg: Config) -> int:
    """Number of tuned parameters of the backbone."""
    backbone = backbone_of(build_model(cfg), 'tuned_parameters')
    return sum(p.numel() for p in backbone.parameters() if p.requires_grad)


def _names(job: str) -> dict[str, str]:
    """Method, backbone and data of a job, parsed from its name; '' for a missing part."""
    match = _SEGMENTATION.fullmatch(job) or _CLASSIFICATION.fullmatch(job)
    found = _CARD.get(job) or (match.groupdict() if match else {'method': job})
    return {name: found.get(name, '') for name in ('method', 'backbone', 'data')}
