"""Adapter checkpoints: what was tuned, without the frozen base.

Task files and pre-tuned modules are such checkpoints. A record among their weights says where the
base is, and its fingerprint, by which the base is known.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import Tensor
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from toast_mm.topdown import FeedbackRoute

from .fingerprint import fingerprint
from .io import CheckpointError

if TYPE_CHECKING:
    from toast_mm.models.backbones.transfer import TransferBackbone

# Among the weights, since these reach a model by whatever way a checkpoint is loaded.
RECORD = 'base_record'


class Record(TypedDict):
    """What a record says.

    Attributes:
        fingerprint: Fingerprint of the weights that the file leaves to its base.
        method: The transfer method in words; None in old files of pre-tuned modules.
        signature: Arguments of the backbone that change what is computed, and that no weight tells.
        route: Arguments of the :class:`FeedbackRoute`; None without feedback, and in old task
            files, whose weights tell it.
        as_in_the_base: Weights in the file that are as in the base, only resized.
        init_cfg: Where the base is, as ``init_cfg`` of the backbone names it.
        pretuned: Where the pre-tuned feedback path is that the file leaves out; None if it holds
            all that there is.
    """

    fingerprint: str
    method: str | None
    signature: dict[str, Any]
    route: dict[str, int] | None
    as_in_the_base: list[str]
    init_cfg: list[dict[str, Any]]
    pretuned: str | None


def frozen_base(backbone: TransferBackbone) -> list[str]:
    """Names of the weights that the base brings, and that no training changes.

    A pre-tuned feedback path that stays frozen, as in TOAST-Lite, counts as the base. Position
    embeddings do not: they are resized to the images of the task, and stay with it.
    """
    return [
        name
        for name, parameter in backbone.named_parameters()
        if not parameter.requires_grad
        and name not in backbone.resized_parameters
        and (backbone.is_base(name) or (backbone.pretuned and is_frozen_path(name)))
    ]


def is_frozen_path(name: str) -> bool:
    """Whether this is a weight of the feedback path that low-rank updates leave as it is."""
    return name.startswith('topdown.feedback.') and '.updates.' not in name


def signature(backbone: TransferBackbone) -> dict[str, Any]:
    """Arguments of a backbone that change what a task computes, and that no weight tells."""
    return {**backbone.steering_signature, **backbone.output_signature}


def make_record(backbone: TransferBackbone, names: Iterable[str]) -> Tensor:
    """What a file says of the base that it leaves out, as JSON in bytes.

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
        init_cfg=backbone.pretrained,
        pretuned=backbone.pretuned if left_path else None,
    )
    return _as_bytes(record)


def relocate(record: Tensor, base: str | None = None, pretuned: str | None = None) -> Tensor:
    """The record, with the base or the pre-tuned module found elsewhere.

    Args:
        record: What :func:`make_record` gave.
        base: Path or URL of the base. Defaults to None, where it was.
        pretuned: Path or URL of the pre-tuned module. Defaults to None, where it was.

    Raises:
        ValueError: The base consists of several files, or there is no pre-tuned module in it.
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
    """Content of a record, of today's files and of those before them.

    Raises:
        CheckpointError: It is damaged.
    """
    try:
        content = json.loads(bytes(record.cpu().numpy().tolist()))
        if 'form' in content:  # as task files were written before they had a route
            content['signature'] = content.pop('form')
            content['route'] = None
            if content['method'] == 'a head alone':
                content['method'] = 'linear probe'
        return _checked(content)
    except (TypeCheckError, TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f'the record of the task file is damaged: {error}') from error


def record_in(weights: Mapping[str, Tensor], meta: Any = None) -> Record | None:
    """The record of a checkpoint; None in those of a whole model.

    Args:
        weights: Weights of the checkpoint.
        meta: Its metadata, where files of pre-tuned modules had their record before.

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
    """Name of the record in a checkpoint that leaves out the base; None in others."""
    return next((name for name in state_dict if name.split('.')[-1] == RECORD), None)


def leave_out_base(
    state_dict: MutableMapping[str, Tensor], names: Iterable[str], record: Tensor, prefix: str
) -> None:
    """Replace the weights of the base in a checkpoint by its record."""
    for name in names:
        state_dict.pop(f'{prefix}{name}')
    state_dict[f'{prefix}{RECORD}'] = record


def in_half(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a checkpoint in float16.

    What a task file takes from the base stays as it is: the same as in other tasks.
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
