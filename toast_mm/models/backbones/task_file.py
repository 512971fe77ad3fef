"""Checkpoints without the frozen base, which they name and by whose fingerprint they know it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from toast_mm.fingerprint import fingerprint

if TYPE_CHECKING:
    from .transfer import TransferBackbone

# Among the weights, since these reach a model by whatever way a checkpoint is loaded.
RECORD = 'base_record'


def frozen_base(backbone: TransferBackbone) -> list[str]:
    """Names of the weights that the base brings, and that no training changes.

    A pre-tuned feedback path that stays frozen, as in TOAST-Lite, counts as the base.
    """
    return [
        name
        for name, parameter in backbone.named_parameters()
        if not parameter.requires_grad
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
        'init_cfg': backbone.pretrained,
        'pretuned': backbone.pretuned if any(map(is_frozen_path, names)) else None,
    }
    return torch.tensor(list(json.dumps(record).encode()), dtype=torch.uint8)


def leave_out_base(
    state_dict: MutableMapping[str, Tensor], names: Iterable[str], record: Tensor, prefix: str
) -> None:
    """Replace the weights of the base in a checkpoint by its record."""
    for name in names:
        state_dict.pop(f'{prefix}{name}')
    state_dict[f'{prefix}{RECORD}'] = record


def is_task_file(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint leaves out the base."""
    return any(name.split('.')[-1] == RECORD for name in state_dict)


def base_fingerprint(backbone: TransferBackbone, names: Iterable[str]) -> str:
    """Fingerprint of weights of the base; those that are resized to the image are no part of it."""
    own = backbone.state_dict()
    return fingerprint(
        {name: own[name] for name in names if name not in backbone.resized_parameters}
    )
