"""Samples of a data set that a command line shows. It raises errors; the tools exit."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.config import Config

from toast_mm.engine.dataloaders import build_dataloader


def add_samples(parser: argparse.ArgumentParser, splits: Sequence[str], default: str) -> None:
    """Add the arguments ``--split``, ``--samples`` and ``--indices``."""
    parser.add_argument(
        '--split', '--phase', choices=splits, default=default, help=f'default: {default}'
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        '--samples',
        type=int,
        default=6,
        metavar='N',
        help='number of samples, evenly spread; default: 6',
    )
    which.add_argument('--indices', type=int, nargs='+', metavar='INDEX', help='these samples')


def check_samples(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with a usage error if no sample is asked for."""
    if args.samples < 1:
        parser.error(f'--samples {args.samples} must be at least 1')


def split_dataset(cfg: Config, split: str) -> Any:
    """Build a data set of a config, which is changed: no data workers.

    Raises:
        ValueError: The config has no such data, or they are empty.
    """
    loader = cfg.get(f'{split}_dataloader')
    if loader is None:
        raise ValueError(f'--split {split}: the config has no {split}_dataloader')
    if not isinstance(loader, dict) or loader.get('dataset') is None:
        raise ValueError(f'{split}_dataloader has no dataset')
    loader.update(num_workers=0, persistent_workers=False)
    return build_dataloader(loader, seed=0).dataset


def choose_samples(args: argparse.Namespace, number: int) -> list[int]:
    """Indices of the samples that the arguments ask for.

    Args:
        args: What the command line says.
        number: Number of samples in the data set.

    Raises:
        ValueError: An index is outside the data set.
    """
    if args.indices is None:
        return np.linspace(0, number - 1, min(args.samples, number)).round().astype(int).tolist()
    if outside := [index for index in args.indices if not 0 <= index < number]:
        raise ValueError(
            f'--indices {outside[0]}: the {args.split} set has {number} samples, 0..{number - 1}'
        )
    return args.indices
