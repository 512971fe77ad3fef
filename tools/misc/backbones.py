"""List the models of timm that ``toast_mm.TOASTTimm`` builds, and what timm knows of their weights.

python tools/misc/backbones.py '*dinov2*'
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import timm
import torch
from prettytable import PrettyTable
from rich.progress import track
from torch.overrides import TorchFunctionMode

from toast_mm.models import TOASTTimm

COLUMNS = (
    *('model_name', 'parameters', 'image', 'patch', 'other tokens', 'mean', 'std'),
    *('licence', 'weights on the hub'),
)


def names(pattern: str) -> list[str]:
    """Names that match, one for each file of weights, and of models without weights."""
    pattern = pattern if {*pattern} & {*'*?['} else f'*{pattern}*'
    with_weights = timm.list_pretrained()
    models = {name.partition('.')[0] for name in with_weights}
    without = [name for name in timm.list_models() if name not in models]
    return [name for name in sorted([*with_weights, *without]) if fnmatchcase(name, pattern)]


class Unfilled(TorchFunctionMode):
    """Leaves tensors as they are made: to fill them takes most of the time, even without memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, '__name__', '')
        if name.endswith('_') and not name.endswith('__') and name != 'requires_grad_':
            return args[0] if args else kwargs['tensor']
        return func(*args, **(kwargs or {}))


@cache
def build(model: str) -> Any:
    """The model without memory for its weights, or None if it does not fit."""
    try:
        with torch.device('meta'), Unfilled():
            return TOASTTimm(model, feedback_from=None, out_type='featmap')
    except ValueError:
        return None


def row(name: str) -> list[str] | None:
    """What is known of a model and its weights; None if it does not fit."""
    backbone = build(name.partition('.')[0])
    if backbone is None:
        return None
    cfg = timm.get_pretrained_cfg(name)
    known = cfg is not None and cfg.has_weights
    return [
        name,
        f'{sum(p.numel() for p in backbone.model.parameters()) / 1e6:.1f} M',
        ' x '.join(map(str, cfg.input_size[1:])) if cfg else '',
        ' x '.join(map(str, getattr(backbone, 'patch_size', ()))),
        str(backbone.tokens.extra) if backbone.tokens else '',
        numbers(cfg.mean) if known else '',
        numbers(cfg.std) if known else '',
        (cfg.license or '') if known else '',
        'yes' if known and cfg.hf_hub_id else 'no',
    ]


def numbers(values: Sequence[float]) -> str:
    """The values, or one if they are equal."""
    return ' '.join(f'{value:.3f}' for value in (values[:1] if len({*values}) == 1 else values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('pattern', nargs='?', default='*', help="part of a name, or '*dinov?_vit*'")
    args = parser.parse_args()
    table = PrettyTable(COLUMNS, align='l')
    table.border = False
    found = names(args.pattern)
    for name in track(found, 'building', transient=True, disable=not sys.stderr.isatty()):
        cells = row(name)
        if cells:
            table.add_row(cells)
    if not table.rows:
        sys.exit(
            f'no model of timm that matches {args.pattern!r} fits toast_mm.TOASTTimm'
            f' ({len(found)} match)'
        )
    print(table)


if __name__ == '__main__':
    main()
