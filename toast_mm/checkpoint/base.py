"""The base of a backbone: the pre-trained weights that ``init_cfg`` names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mmengine.logging import print_log
from mmengine.model import PretrainedInit
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from .adapter import RECORD
from .coverage import check_coverage, is_folded
from .finite import check_finite
from .hub import pinned
from .io import CheckpointError, fetch
from .loadable import LoadableBackbone

PRETRAINED = ('Pretrained', PretrainedInit)
InitCfg = dict | Sequence[dict] | None


def split_init_cfg(init_cfg: InitCfg) -> tuple[list[dict], list[dict]]:
    """Split an ``init_cfg`` into ordinary initialisers and pre-trained weights."""
    cfgs: list[Any] = list(init_cfg) if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    cfgs = [cfg for cfg in cfgs if cfg is not None]
    for cfg in cfgs:
        if not isinstance(cfg, dict) or 'type' not in cfg:
            raise ValueError(
                f'init_cfg={cfg!r} must be a dict with a type, such as '
                "dict(type='Pretrained', checkpoint=...)"
            )
        if cfg['type'] in PRETRAINED and not isinstance(cfg.get('checkpoint'), str):
            raise ValueError(f'init_cfg={cfg!r} must name a file: checkpoint=...')
    pretrained = [cfg for cfg in cfgs if cfg['type'] in PRETRAINED]
    others = [cfg for cfg in cfgs if cfg not in pretrained]
    # mmengine notes the scope of a config that is inherited by package name.
    return others, [{k: v for k, v in cfg.items() if k != '_scope_'} for cfg in pretrained]


def fetch_bases(model: nn.Module) -> None:
    """Download the bases of all backbones in a model that are not on this machine yet.

    A training begins with it: a base that cannot be had is told before the data are read.

    Raises:
        CheckpointError: One cannot be downloaded.
    """
    for module in model.modules():
        for source in module.pretrained if isinstance(module, LoadableBackbone) else ():
            fetch(source['checkpoint'])


def load_base(backbone: LoadableBackbone, source: Mapping[str, Any]) -> set[str]:
    """Load the pre-trained weights that ``init_cfg=dict(type='Pretrained', ...)`` names.

    If the weights are those of a folded backbone, the backbone is folded.

    Args:
        backbone: Takes the weights.
        source: This dict.

    Returns:
        Names of the weights that were loaded.

    Raises:
        CheckpointError: The file does not cover the backbone, has more blocks, or weights that are
            infinite or NaN.
    """
    with _open(backbone, source) as given:
        if backbone.pretuned:  # which brings the module; this file may hold one, too
            given = _without_topdown(backbone, given)
        if is_folded(given):
            backbone.fold()
        _check(backbone, given)
    keys = backbone.load_state_dict(given, strict=False)
    unused = f'; unused: {", ".join(keys.unexpected_keys)}' if keys.unexpected_keys else ''
    print_log(f'Base weights are those of {pinned(source["checkpoint"])}{unused}', 'current')
    return given.keys() - keys.unexpected_keys


def read_base(backbone: LoadableBackbone, source: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read the weights of a base, under the names of a backbone. The backbone does not change.

    Args:
        backbone: Backbone that gives the names.
        source: See :func:`load_base`.

    Raises:
        CheckpointError: The file does not cover the backbone, has more blocks, or weights that are
            infinite or NaN.
    """
    with _open(backbone, source) as given:
        base = _without_topdown(backbone, given)
        _check(backbone, base)
    return base


@contextmanager
def _open(backbone: LoadableBackbone, source: Mapping[str, Any]) -> Iterator[dict[str, Tensor]]:
    """Read the weights below a prefix, and name the file in errors inside the context."""
    checkpoint, prefix = source.get('checkpoint'), source.get('prefix')
    further = source.keys() - {'type', 'checkpoint', 'prefix', 'map_location'}
    if further or not isinstance(checkpoint, str) or not isinstance(prefix, (str, type(None))):
        raise CheckpointError(
            f'init_cfg={dict(source)!r} must have a file as checkpoint, may have a text as prefix '
            'and a map_location, and nothing else'
        )
    map_location = source.get('map_location', 'cpu')
    file = CheckpointLoader.load_checkpoint(checkpoint, map_location=map_location)
    state_dict = file.get('state_dict', file)
    start = f'{prefix.removesuffix(".")}.' if prefix else ''
    given = {n[len(start) :]: tensor for n, tensor in state_dict.items() if n.startswith(start)}
    try:
        yield backbone.fit_stem(backbone.rename_base(given))
    except CheckpointError as error:
        raise CheckpointError(
            f'init_cfg with checkpoint={checkpoint!r}, prefix={prefix!r}: {error}'
            f'{_right_prefix(backbone, state_dict, start)}'
        ) from error


def _without_topdown(backbone: LoadableBackbone, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: t for name, t in given.items() if backbone.part_of(name) != 'topdown'}


def _check(backbone: LoadableBackbone, given: Mapping[str, Tensor]) -> None:
    if RECORD in given:
        raise CheckpointError(
            'it is a task file, which leaves out its base: name that base, and load the task file '
            'by load_from'
        )
    own = backbone.state_dict()
    resized = {name: own[name] for name in backbone.resized_parameters if name in given}
    check_coverage(backbone, {**given, **resized})
    check_finite({n: given[n] for n, _ in backbone.named_parameters() if n in given})


def _right_prefix(backbone: LoadableBackbone, state_dict: Mapping[str, Tensor], wrong: str) -> str:
    """Suggest the prefix that the weights of the backbone have in this file, if any."""
    first = next(iter(backbone.state_dict()))
    found = [name.removesuffix(first) for name in state_dict if f'.{name}'.endswith(f'.{first}')]
    if not found or wrong in found:
        return ''
    return f'; the file has {first} under prefix={" or ".join(repr(p or None) for p in found)}'
