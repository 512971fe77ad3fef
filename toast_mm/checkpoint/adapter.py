"""Adapter checkpoints: the tuned weights, without the frozen base.

Task files and pre-tuned modules are such checkpoints. One entry of their state dict is a record. It
says where the base is, and holds its fingerprint, which tells this base from others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import asdict
from typing import Any, TypedDict

import torch
from torch import Tensor
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from toast_mm.topdown import FeedbackRoute

from .fingerprint import fingerprint
from .hub import pinned
from .io import CheckpointError
from .loadable import LoadableBackbone

# The record is an entry of the state dict, which every loader of checkpoints passes to the model.
RECORD = 'base_record'


class Record(TypedDict):
    """Content of a record.

    Attributes:
        fingerprint: Fingerprint of the weights that the file leaves out.
        method: Description of the transfer method; None in old files of pre-tuned modules.
        signature: Arguments of the backbone that change its outputs, and that weights do not show.
        route: Arguments of the :class:`FeedbackRoute`; None without feedback, and in old task
            files.
        as_in_the_base: Weights in the file that are those of the base, only resized.
        init_cfg: Where the base is, in the form of ``init_cfg`` of the backbone.
        pretuned: Where the pre-tuned feedback path is, if the file leaves it out; otherwise None.
    """

    fingerprint: str
    method: str | None
    signature: dict[str, Any]
    route: dict[str, int] | None
    as_in_the_base: list[str]
    init_cfg: list[dict[str, Any]]
    pretuned: str | None


def frozen_base(backbone: LoadableBackbone) -> list[str]:
    """Names of the weights that come with the base, and that training does not change.

    A pre-tuned feedback path that stays frozen, as in TOAST-Lite, counts as the base. Position
    embeddings do not: they are resized to the images of the task, and stay with it.
    """
    tuned = {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    if not backbone.frozen:
        tuned |= {name for name, _ in backbone.named_buffers()}
    return [
        name
        for name in backbone.state_dict()
        if name not in tuned
        and name not in backbone.resized_parameters
        and (backbone.is_base(name) or (backbone.pretuned and is_frozen_path(name)))
    ]


def is_frozen_path(name: str) -> bool:
    """Whether this is a weight of the feedback path that low-rank updates do not change."""
    return name.startswith('topdown.feedback.') and '.updates.' not in name


def signature(backbone: LoadableBackbone) -> dict[str, Any]:
    """Arguments of a backbone that change its outputs, and that weights do not show."""
    bands = {} if backbone.in_channels == 3 else dict(in_channels=backbone.in_channels)
    return {**backbone.steering_signature, **backbone.output_signature, **bands}


def make_record(backbone: LoadableBackbone, names: Iterable[str]) -> Tensor:
    """Make the record of a file, as JSON in bytes.

    Args:
        backbone: Holds the base.
        names: Names of the weights that are left out.
    """
    names = list(names)
    left_path = any(map(is_frozen_path, names))
    record = Record(
        fingerprint=fingerprint_of(backbone.state_dict(), names),
        method=backbone.method,
        signature=signature(backbone),
        route=None if backbone.topdown is None else asdict(backbone.route),
        as_in_the_base=list(backbone.resized_parameters),  # which a task file holds all the same
        init_cfg=[
            {**source, 'checkpoint': pinned(source['checkpoint'])} for source in backbone.pretrained
        ],
        pretuned=pinned(backbone.pretuned) if left_path and backbone.pretuned else None,
    )
    return _as_bytes(record)


def relocate(record: Tensor, base: str | None = None, pretuned: str | None = None) -> Tensor:
    """Change in a record where the base or the pre-tuned module is.

    Args:
        record: The record, as :func:`make_record` returns it.
        base: Path or URL of the base. Defaults to None, no change.
        pretuned: Path or URL of the pre-tuned module. Defaults to None, no change.

    Raises:
        ValueError: The base consists of several files, or the file leaves out no pre-tuned module.
    """
    content = read_record(record)
    if base is not None:
        if len(content['init_cfg']) != 1:
            files = ', '.join(source['checkpoint'] for source in content['init_cfg'])
            raise ValueError(f'the base consists of several files: {files}')
        content['init_cfg'][0]['checkpoint'] = base
    if pretuned is not None:
        if content['pretuned'] is None:
            raise ValueError('the task file leaves out no pre-tuned module')
        content['pretuned'] = pretuned
    return _as_bytes(content)


def read_record(record: Tensor) -> Record:
    """Read a record of a new or an old file.

    Raises:
        CheckpointError: It is damaged.
    """
    try:
        content = json.loads(bytes(record.cpu().numpy().tolist()))
        if 'form' in content:  # the keys of old task files
            content['signature'] = content.pop('form')
            content['route'] = None
            if content['method'] == 'a head alone':
                content['method'] = 'linear probe'
        return _checked(content)
    except (TypeCheckError, TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f'the record of the task file is damaged: {error}') from error


def record_in(weights: Mapping[str, Tensor], meta: Any = None) -> Record | None:
    """Find the record of a checkpoint; None if it holds a whole model.

    Args:
        weights: Weights of the checkpoint.
        meta: Its metadata, where old files of pre-tuned modules have their record.

    Raises:
        CheckpointError: The record is damaged.
    """
    name = record_name(weights)
    if name is not None:
        return read_record(weights[name])
    text = meta.get('topdown') if isinstance(meta, dict) else None
    if text is None:
        return None
    try:
        old = json.loads(text)
        return _checked(
            dict(
                fingerprint=old['base'],
                method=None,
                signature=old['selection'],
                route=asdict(FeedbackRoute(**old['route'])),
                as_in_the_base=[],
                init_cfg=[],
                pretuned=None,
            )
        )
    except (TypeCheckError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f'its metadata are damaged: {error!r}') from error


def record_name(state_dict: Mapping[str, Tensor]) -> str | None:
    """Name of the record in an adapter checkpoint; None in others."""
    return next((name for name in state_dict if name.split('.')[-1] == RECORD), None)


def leave_out_base(
    state_dict: MutableMapping[str, Tensor], names: Iterable[str], record: Tensor, prefix: str
) -> None:
    """Replace the weights of the base in a checkpoint by its record."""
    for name in names:
        state_dict.pop(f'{prefix}{name}')
    state_dict[f'{prefix}{RECORD}'] = record


def in_half(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the weights of a checkpoint to float16.

    Weights that a task file shares with its base keep their type, so that tasks can share them.
    """
    name = record_name(state_dict)
    kept = [] if name is None else read_record(state_dict[name])['as_in_the_base']
    kept = [f'{(name or "").removesuffix(RECORD)}{part}' for part in kept]
    return {
        name: tensor.half() if tensor.is_floating_point() and name not in kept else tensor
        for name, tensor in state_dict.items()
    }


def fingerprint_of(state_dict: Mapping[str, Tensor], names: Iterable[str]) -> str:
    """Fingerprint of some of the weights."""
    return fingerprint({name: state_dict[name] for name in names})


def _checked(content: dict[str, Any]) -> Record:
    known = {key: content[key] for key in Record.__annotations__ if key in content}
    return check_type(known, Record, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)


def _as_bytes(record: Record) -> Tensor:
    return torch.tensor(list(json.dumps(record).encode()), dtype=torch.uint8)
