"""Before a backbone is loaded: complete a task file by its base, and check the weights."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from torch import Tensor

from .adapter import RECORD, Record, fingerprint_of, is_frozen_path, read_record, signature
from .base import read_base
from .coverage import check_coverage, check_fit, is_folded, part_is_wanted
from .hub import unpinned
from .io import CheckpointError
from .loadable import LoadableBackbone
from .pretuned import read_pretuned


def before_loading(
    backbone: LoadableBackbone, state_dict: MutableMapping[str, Tensor], prefix: str, *args: Any
) -> None:
    """Hook before any loading: :func:`complete` the weights, and check their coverage.

    ``load_state_dict(part, strict=False)`` loads a part of the weights, without the check. Loading
    by mmengine's ``load_checkpoint``, as in ``Runner``, ``init_model`` and inferencers, is
    checked, though mmengine itself only warns of missing weights. If the weights are those of a
    folded backbone, the backbone is folded.
    """
    complete(backbone, state_dict, prefix)
    if part_is_wanted():
        return
    if is_folded(name for name in state_dict if name.startswith(f'{prefix}topdown.')):
        backbone.fold()
    check_coverage(backbone, state_dict, prefix)


def complete(
    backbone: LoadableBackbone,
    state_dict: MutableMapping[str, Tensor],
    prefix: str = '',
    reread: bool = False,
) -> None:
    """Add the weights of the base, and of the pre-tuned path, to those of a task file.

    They are taken from the backbone if it holds them already, which the fingerprint tells.
    Otherwise they are read from the file that ``init_cfg`` names, or else the task file. Weights
    of other checkpoints are not changed.

    Args:
        backbone: Backbone that will take the weights. It does not change.
        state_dict: Weights by name, which are changed in place.
        prefix: Beginning of the names of the backbone's weights. Defaults to ``''``.
        reread: Whether to read the files even if the backbone holds the weights. Defaults to False.

    Raises:
        CheckpointError: The task file is of another method or backbone, or its base cannot be
            read, or is not the one that it was tuned on.
    """
    content = state_dict.pop(f'{prefix}{RECORD}', None)
    if content is None:
        return
    record = read_record(content)
    _check_same_task(backbone, record)
    pretuned = record['pretuned']
    if pretuned and backbone.pretuned and backbone.pretuned != unpinned(pretuned):
        pretuned = backbone.pretuned
    names = [
        name
        for name in backbone.state_dict()
        if (backbone.is_base(name) or (pretuned and is_frozen_path(name)))
        and f'{prefix}{name}' not in state_dict
    ]
    held = backbone.state_dict()
    if reread or fingerprint_of(held, names) != record['fingerprint']:
        held = _read_left_out(backbone, names, record, pretuned)
    state_dict.update({f'{prefix}{name}': held[name] for name in names})


def _read_left_out(
    backbone: LoadableBackbone, names: list[str], record: Record, pretuned: str | None
) -> dict[str, Tensor]:
    """Read the weights that a task file leaves out, and check that it was tuned on them."""
    # Inference tools of mmpretrain and mmseg drop init_cfg and load no base.
    sources = record['init_cfg']
    # What a config names by a branch of the Hub, the record names by the commit of the training.
    if backbone.pretrained and backbone.pretrained != [
        {**source, 'checkpoint': unpinned(source['checkpoint'])} for source in sources
    ]:
        sources = backbone.pretrained
    found = dict(backbone.state_dict())
    try:
        for source in sources:
            found |= read_base(backbone, source)
        if pretuned:
            path = read_pretuned(backbone, pretuned, found)
            found |= {f'topdown.{name}': tensor for name, tensor in path.items()}
        check_fit({n: t for n, t in backbone.state_dict().items() if n in names}, found, 'base')
    except (CheckpointError, FileNotFoundError) as error:
        raise CheckpointError(
            f'the task file needs its base, which cannot be read: {error}; name it by init_cfg, '
            'or, for tools that drop init_cfg, in the file: publish_model.py --base'
        ) from error
    present = fingerprint_of(found, names)
    if present != record['fingerprint']:
        files = [source['checkpoint'] for source in sources]
        files += [pretuned] if pretuned else []
        raise CheckpointError(
            f'the task file was tuned on the base with fingerprint {record["fingerprint"][:12]}, '
            f'but {" with ".join(files)} has {present[:12]}; name the base that it was tuned on by '
            'init_cfg'
        )
    return found


def _check_same_task(backbone: LoadableBackbone, record: Record) -> None:
    """Refuse a task file of another method, or of a backbone with another signature."""
    if record['method'] != backbone.method:
        raise CheckpointError(
            f'the task file is of {record["method"]}, and this backbone is built for '
            f'{backbone.method}: use the config of that training'
        )
    usual = dict(in_channels=3, first_pass_scale=1.0)  # which signatures leave out
    own, theirs = (usual | s for s in (signature(backbone), record['signature']))
    if names := [name for name, value in theirs.items() if own.get(name) != value]:
        there, here = (
            ', '.join(f'{name}={values.get(name)!r}' for name in names) for values in (theirs, own)
        )
        raise CheckpointError(
            f'the task file is of a backbone with {there}, and this one has {here}: use the config '
            'of that training'
        )
