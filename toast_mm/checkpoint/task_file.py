"""Checkpoints without the frozen base, which they name and by whose fingerprint they know it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import Tensor
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from .fingerprint import fingerprint
from .io import CheckpointError

if TYPE_CHECKING:
    from toast_mm.models.backbones.transfer import TransferBackbone

# Among the weights, since these reach a model by whatever way a checkpoint is loaded.
RECORD = 'base_record'


class Record(TypedDict):
    """What a record says."""

    fingerprint: str
    method: str
    form: dict[str, Any]
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


def make_record(backbone: TransferBackbone) -> Tensor:
    """Where base and pre-tuned module come from, and their fingerprint, as JSON in bytes.

    Raises:
        ValueError: ``init_cfg`` names no base.
    """
    if not backbone.pretrained:
        raise ValueError(
            'a task file leaves out the base, and nothing would say where it is: name it by '
            "model.backbone.init_cfg=dict(type='Pretrained', checkpoint=...)"
        )
    names = frozen_base(backbone)
    record = {
        'fingerprint': base_fingerprint(backbone, names),
        'method': backbone.method,
        'form': task_form(backbone),
        'as_in_the_base': list(backbone.resized_parameters),  # which are in the file all the same
        'init_cfg': backbone.pretrained,
        'pretuned': backbone.pretuned if any(map(is_frozen_path, names)) else None,
    }
    return _as_bytes(record)


def task_form(backbone: TransferBackbone) -> dict[str, Any]:
    """Arguments of a backbone that change what a task computes, and that no weight tells."""
    steered = backbone.selection_form if backbone.topdown is not None else {}
    return {**steered, **backbone.output_form}


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


def read_record(record: Tensor) -> dict[str, Any]:
    """Content of a record.

    Raises:
        CheckpointError: It is damaged.
    """
    try:
        content = json.loads(bytes(record.cpu().numpy().tolist()))
        known = {key: content[key] for key in Record.__annotations__ if key in content}
        check_type(known, Record, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except (TypeCheckError, TypeError, ValueError) as error:
        raise CheckpointError(f'the record of the task file is damaged: {error}') from error
    return content


def _as_bytes(record: Mapping[str, Any]) -> Tensor:
    return torch.tensor(list(json.dumps(record).encode()), dtype=torch.uint8)


def leave_out_base(
    state_dict: MutableMapping[str, Tensor], names: Iterable[str], record: Tensor, prefix: str
) -> None:
    """Replace the weights of the base in a checkpoint by its record."""
    for name in names:
        state_dict.pop(f'{prefix}{name}')
    state_dict[f'{prefix}{RECORD}'] = record


def record_name(state_dict: Mapping[str, Tensor]) -> str | None:
    """Name of the record in a checkpoint that leaves out the base; None in others."""
    return next((name for name in state_dict if name.split('.')[-1] == RECORD), None)


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


def base_fingerprint(backbone: TransferBackbone, names: Iterable[str]) -> str:
    """Fingerprint of some weights of a backbone."""
    own = backbone.state_dict()
    return fingerprint({name: own[name] for name in names})
