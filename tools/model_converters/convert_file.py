"""Converting a file: shared code of the command lines of all converters."""

from __future__ import annotations

import argparse
import os.path as osp
import sys
from collections.abc import Callable

import torch
from rich.console import Console

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.convert.read import read_weights
from toast_mm.checkpoint.convert.report import Converted
from toast_mm.checkpoint.finite import check_finite
from toast_mm.files import atomic_write, save_safetensors
from toast_mm.outputs import add_overwrite, check_free


def add_files(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all converters have."""
    parser.add_argument('source', help='published checkpoint: PyTorch, safetensors or npz')
    add_target(parser)


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the arguments about the file to write."""
    parser.add_argument(
        'target', type=_target, help='file to write, ending in .pth or .safetensors'
    )
    add_overwrite(parser)


def _target(path: str) -> str:
    if not path.endswith(('.pth', '.safetensors')):
        raise argparse.ArgumentTypeError(f'{path} must end in .pth or .safetensors')
    return path


def convert_file(
    args: argparse.Namespace, convert: Callable[[dict, str | None], Converted]
) -> None:
    """Read and convert a file, print a table, and write it unless a backbone weight is missing.

    Args:
        args: ``source``, the arguments of :func:`add_target`, and ``pretuned`` if another file is
            read.
        convert: Takes the weights and the name of the entry that held them in the file.

    Raises:
        CheckpointError: The weights cannot be converted, or not completely.
        FileNotFoundError: The source does not exist.
        WriteError: The target cannot be written, or would replace a file.
    """
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    inputs = [args.source, getattr(args, 'pretuned', None) or args.source]
    check_free([args.target], inputs, args.overwrite)
    weights, container = read_weights(args.source)
    try:
        converted = convert(weights, container)
        converted.show(console)
        converted.check_whole()
        check_finite(converted.weights)
    except CheckpointError as error:
        raise CheckpointError(f'{args.source}: {error}; nothing is written') from error
    _write(converted, args.target)
    console.print(f'{args.target}: {osp.getsize(args.target) / 2**20:.2f} MiB', soft_wrap=True)


def _write(converted: Converted, target: str) -> None:
    weights = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in converted.weights.items()
    }
    if target.endswith('.safetensors'):
        save_safetensors(weights, target, {'kind': converted.kind})
        return
    meta = dict(kind=converted.kind, preprocessing=converted.preprocessing)
    with atomic_write(target) as partial:
        torch.save(dict(state_dict=weights, meta=meta), partial)
