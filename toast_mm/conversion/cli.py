"""What the command lines of all converters do."""

from __future__ import annotations

import argparse
import os.path as osp
import sys
from collections.abc import Callable

import torch
from rich.console import Console

from toast_mm.checkpoint import CheckpointError
from toast_mm.files import WriteError, save_safetensors, whole_file
from toast_mm.finite import demand_finite
from toast_mm.outputs import add_overwrite, demand_free

from .read import read_weights
from .report import Converted


def add_files(parser: argparse.ArgumentParser) -> None:
    """Arguments of every converter."""
    parser.add_argument('source', help='published checkpoint: PyTorch, safetensors or npz')
    parser.add_argument('target', help='file to write, ending in .pth or .safetensors')
    add_overwrite(parser)


def run(
    parser: argparse.ArgumentParser,
    convert: Callable[[dict, str | None, argparse.Namespace], Converted],
) -> None:
    """Read, convert, print the table, and write unless a weight of the backbone is missing."""
    args = parser.parse_args()
    if not args.target.endswith(('.pth', '.safetensors')):
        parser.error(f'{args.target} must end in .pth or .safetensors')
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    inputs = [args.source, getattr(args, 'pretuned', None) or args.source]
    try:
        demand_free([args.target], inputs, args.overwrite)
        weights, container = read_weights(args.source)
        try:
            converted = convert(weights, container, args)
            converted.show(console)
            converted.demand_whole()
            demand_finite(converted.weights)
        except CheckpointError as error:
            raise CheckpointError(f'{args.source}: {error}; nothing is written') from error
        _write(converted, args.target)
    except (CheckpointError, FileNotFoundError, WriteError) as error:
        sys.exit(str(error))
    console.print(f'{args.target}: {osp.getsize(args.target) / 2**20:.2f} MiB', soft_wrap=True)


def _write(converted: Converted, target: str) -> None:
    weights = {name: tensor.float() for name, tensor in converted.weights.items()}
    if target.endswith('.safetensors'):
        save_safetensors(weights, target, {'kind': converted.kind})
        return
    meta = dict(kind=converted.kind, preprocessing=converted.preprocessing)
    with whole_file(target) as partial:
        torch.save(dict(state_dict=weights, meta=meta), partial)
