"""Loading the weights of a steered backbone: whole, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from mmengine.logging import print_log
from mmengine.model import PretrainedInit
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from .coverage import check_fit, part_is_wanted
from .io import CheckpointError
from .pretuned import load_pretuned
from .task_file import RECORD, base_fingerprint, is_frozen_path, read_record, task_form

if TYPE_CHECKING:
    from toast_mm.models.backbones.transfer import TransferBackbone

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


def load_base(
    backbone: TransferBackbone,
    checkpoint: str,
    prefix: str | None = None,
    map_location: Any = 'cpu',
    type: str = 'Pretrained',
) -> None:
    """Load the pre-trained weights that ``init_cfg=dict(type='Pretrained', ...)`` names.

    Args:
        backbone: Takes the weights.
        checkpoint: Path or URL.
        prefix: Beginning of the names of the backbone's weights in the file.
        map_location: As in :func:`torch.load`.
        type: The key of ``init_cfg`` that led here.

    Raises:
        CheckpointError: The file does not cover the backbone, or has more blocks.
    """
    state_dict = _read(checkpoint, map_location)
    start = f'{prefix.removesuffix(".")}.' if prefix else ''
    given = {
        name[len(start) :]: tensor for name, tensor in state_dict.items() if name.startswith(start)
    }
    if getattr(backbone, 'pretuned', None):  # which brings the module; this file may hold one, too
        given = {name: t for name, t in given.items() if not name.startswith('topdown.')}
    try:
        _restore_base(backbone, given, '')
        own = backbone.state_dict()
        resized = {name: own[name] for name in backbone.resized_parameters if name in given}
        check_coverage(backbone, {**given, **resized})
        keys = backbone.load_state_dict(given, strict=False)
    except CheckpointError as error:
        raise CheckpointError(
            f'init_cfg with checkpoint={checkpoint!r}, prefix={prefix!r}: {error}'
            f'{_right_prefix(backbone, state_dict, start)}'
        ) from error
    unused = f'; unused: {", ".join(keys.unexpected_keys)}' if keys.unexpected_keys else ''
    print_log(f'Base weights are those of {checkpoint}{unused}', logger='current')


def before_loading(
    backbone: TransferBackbone, state_dict: MutableMapping[str, Tensor], prefix: str, *args: Any
) -> None:
    """Hook before any loading: a task file is completed by its base, and nothing may be missing.

    Whoever calls ``load_state_dict(part, strict=False)`` asks for a part, and gets it. Who loads by
    mmengine's ``load_checkpoint``, as ``Runner``, ``init_model`` and inferencers do, has not asked
    for a part, though mmengine only warns of what is missing.
    """
    _restore_base(backbone, state_dict, prefix)
    if not part_is_wanted():
        check_coverage(backbone, state_dict, prefix)


def check_coverage(
    backbone: TransferBackbone, state_dict: Mapping[str, Tensor], prefix: str = ''
) -> None:
    """Refuse weights that are less than the backbone, or more.

    Weights without a top-down module are those of a plain backbone and welcome; with a module for
    another width or route they are not. Nor are those of a deeper one, which would be cut short in
    silence. For a folded module, the backbone is folded.

    Args:
        backbone: Is going to take the weights.
        state_dict: Weights by name.
        prefix: Beginning of the names of the backbone's weights. Defaults to ``''``.

    Raises:
        CheckpointError: Says what is missing, or too much.
    """
    _check_same_kind(backbone, state_dict, prefix)
    topdown = [name for name in state_dict if name.startswith(f'{prefix}topdown.')]
    if topdown:
        _check_same_form(backbone, topdown)
    own = {prefix + name: tensor for name, tensor in backbone.state_dict().items()}
    expected = {name: own[name] for name in own if backbone.is_base(name[len(prefix) :])}
    if topdown:
        expected.update((name, own[name]) for name in own if _part(name, prefix) == 'topdown')
    added = {name: own[name] for name in own if name[len(prefix) :] in backbone.added}
    if any(name in state_dict for name in added):
        expected.update(added)
    check_fit(expected, state_dict, 'backbone')
    parts = {_part(name, prefix) for name in expected}
    surplus = [
        name
        for name in state_dict
        if name.startswith(prefix) and name not in own and _part(name, prefix) in parts
    ]
    if surplus:
        raise CheckpointError(
            f'the checkpoint holds more than this backbone has: {", ".join(surplus)}'
        )


def _restore_base(
    backbone: TransferBackbone, state_dict: MutableMapping[str, Tensor], prefix: str
) -> None:
    """Complete a task file by the base, which is loaded first if the backbone does not hold it.

    Args:
        backbone: Is going to take the weights.
        state_dict: Those of a task file, or of another checkpoint, which stays as it is.
        prefix: Beginning of the names of the backbone's weights.

    Raises:
        CheckpointError: The base cannot be read, or is not that of the task file.
    """
    content = state_dict.pop(f'{prefix}{RECORD}', None)
    if content is None:
        return
    record = read_record(content)
    _check_same_task(backbone, record)
    # Inference tools of mmpretrain and mmseg drop init_cfg and load no base.
    sources = backbone.pretrained or record['init_cfg']
    pretuned = record['pretuned'] and (backbone.pretuned or record['pretuned'])
    names = [
        name
        for name in backbone.state_dict()
        if (backbone.is_base(name) or (pretuned and is_frozen_path(name)))
        and f'{prefix}{name}' not in state_dict
    ]
    if base_fingerprint(backbone, names) != record['fingerprint']:
        try:
            for source in sources:
                load_base(backbone, **source)
            if pretuned:
                load_pretuned(backbone, pretuned)
        except (CheckpointError, FileNotFoundError) as error:
            raise CheckpointError(
                f'the task file needs its base, which cannot be read: {error}; name it by '
                'init_cfg, or, for tools that drop init_cfg, in the file: publish_model.py --base'
            ) from error
        present = base_fingerprint(backbone, names)
        if present != record['fingerprint']:
            files = [source['checkpoint'] for source in sources]
            files += [pretuned] if pretuned else []
            raise CheckpointError(
                f'the task file was tuned on the base with fingerprint '
                f'{record["fingerprint"][:12]}, but {" with ".join(files)} has {present[:12]}; '
                'name the base that it was tuned on by init_cfg'
            )
    own = backbone.state_dict()
    state_dict.update({f'{prefix}{name}': own[name] for name in names})


def _check_same_task(backbone: TransferBackbone, record: Mapping[str, Any]) -> None:
    """Refuse a task file of another method, or of a backbone that gives or selects other things."""
    if record['method'] != backbone.method:
        raise CheckpointError(
            f'the task file is of {record["method"]}, and this backbone is built for '
            f'{backbone.method}: use the config of that training'
        )
    form = task_form(backbone)
    for name, value in record['form'].items():
        if form.get(name) != value:
            raise CheckpointError(
                f'the task file is of a backbone with {name}={value!r}, and this one has '
                f'{name}={form.get(name)!r}: use the config of that training'
            )


def _check_same_kind(backbone: TransferBackbone, given: Iterable[str], prefix: str) -> None:
    """Say so if the checkpoint is of the other kind of backbone, and not what is missing in it."""
    parts = {_part(name, prefix) for name in given if name.startswith(prefix)}
    kinds = {'layers': 'a Vision Transformer', 'stages': 'a ConvNeXt'}
    own = next((part for part in kinds if hasattr(backbone, part)), None)
    other = next((part for part in kinds if part in parts), None)
    if own and other and own not in parts:
        raise CheckpointError(
            f'the checkpoint is of {kinds[other]}, and this backbone is {kinds[own]}'
        )


def _check_same_form(backbone: TransferBackbone, given: Iterable[str]) -> None:
    """Fold the backbone for a folded checkpoint; refuse TOAST for TOAST-Lite, and such."""
    if not any(name.endswith('selection.channel_transform') for name in given):
        backbone.fold()
    elif backbone.folded:
        raise CheckpointError(
            'this backbone is folded for inference, but the checkpoint is not: load it into a '
            'backbone that is not, and fold that'
        )
    lite = backbone.topdown is not None and backbone.topdown.lite
    if lite == any('.updates.' in name for name in given):
        return
    if lite:
        raise CheckpointError(
            'the checkpoint is of TOAST, without low-rank updates, but this backbone has some: '
            'leave out lite, or name the checkpoint by pretuned to tune updates of it'
        )
    raise CheckpointError(
        'the checkpoint is of TOAST-Lite, with low-rank updates of the feedback path, and this '
        'backbone has no such updates: build it with lite=dict(rank=...) of that training'
    )


def _read(checkpoint: str, map_location: Any) -> Mapping[str, Tensor]:
    file = CheckpointLoader.load_checkpoint(checkpoint, map_location=map_location)
    return file.get('state_dict', file)


def _part(name: str, prefix: str) -> str:
    return name[len(prefix) :].split('.')[0]


def _right_prefix(backbone: nn.Module, state_dict: Mapping[str, Tensor], wrong: str) -> str:
    """What else the names of the backbone's weights begin with in this file, if anything."""
    first = next(iter(backbone.state_dict()))
    found = [name.removesuffix(first) for name in state_dict if f'.{name}'.endswith(f'.{first}')]
    if not found or wrong in found:
        return ''
    return f'; the file has {first} under prefix={" or ".join(repr(p or None) for p in found)}'
