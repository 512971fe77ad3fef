"""A pre-tuned top-down module as a file: small, and bound to the base that it was tuned on."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor

from toast_mm.files import save_safetensors
from toast_mm.topdown import FeedbackRoute

from .coverage import check_fit
from .fingerprint import fingerprint
from .finite import check_finite
from .io import CheckpointError

if TYPE_CHECKING:
    from toast_mm.models.backbones.transfer import TransferBackbone


def save_pretuned(backbone: TransferBackbone, path: str) -> None:
    """Write the top-down module of a backbone alone, with what it was tuned for.

    The file is safetensors; its metadata hold the route, the form of the
    selection and the fingerprint of the base.

    Args:
        backbone: Has a top-down module.
        path: File to write, ending in ``.safetensors``.

    Raises:
        ValueError: The backbone has no top-down module.
        CheckpointError: It is not finite.
        WriteError: The file cannot be written.
    """
    if backbone.topdown is None:
        raise ValueError('the backbone has no top-down module to save: feedback_from is None')
    tensors = {f'topdown.{name}': tensor for name, tensor in backbone.topdown.state_dict().items()}
    check_finite(tensors)
    record = {
        'route': asdict(backbone.route),
        'selection': backbone.selection_form,
        'base': _base_fingerprint(backbone, backbone.state_dict()),
    }
    save_safetensors(tensors, path, {'topdown': json.dumps(record)})


def load_pretuned(backbone: TransferBackbone, checkpoint: str) -> None:
    """Load a pre-tuned top-down module: a file of its own, or a checkpoint of the whole model.

    Args:
        backbone: Takes the module; its base weights are loaded already.
        checkpoint: Path or URL.

    Raises:
        CheckpointError: The module was tuned on another base, or is of another
            width or route, or there is none, or the file is damaged.
    """
    assert backbone.topdown is not None, 'prepare() refuses pretuned without one'
    expected = backbone.topdown.state_dict()
    file = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    weights = file.get('state_dict', file)
    try:
        route, selection, base = _read_record(file.get('meta'))
        if route not in (None, backbone.route):
            raise CheckpointError(f'it was tuned for {route}, but this is {backbone.route}')
        given = _topdown_weights(weights, expected, backbone.route)
        _check_base(backbone, base or _base_in_checkpoint(weights, backbone))
    except CheckpointError as error:
        raise CheckpointError(f'pretuned={checkpoint!r}: {error}') from error
    for name, value in selection.items():
        if value != backbone.selection_form.get(name):
            print_log(f'{checkpoint} was tuned with {name}={value}', 'current', logging.WARNING)
    backbone.topdown.load_state_dict(given, strict=False)  # it fits, but for updates of zero
    print_log(f'The top-down module is that of {checkpoint}', logger='current')


def _read_record(meta: Any) -> tuple[FeedbackRoute | None, dict[str, Any], str | None]:
    """Route, form of the selection and base; a checkpoint of a whole model has no such record."""
    text = meta.get('topdown') if isinstance(meta, dict) else None
    if text is None:
        return None, {}, None
    try:
        record = json.loads(text)
        return FeedbackRoute(**record['route']), dict(record['selection']), str(record['base'])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f'its metadata are damaged: {error!r}') from error


def _topdown_weights(
    state_dict: Mapping[str, Tensor], expected: Mapping[str, Tensor], route: FeedbackRoute
) -> dict[str, Tensor]:
    given = {
        name.split('topdown.', 1)[1]: tensor
        for name, tensor in state_dict.items()
        if 'topdown.' in name
    }
    if given and 'selection.channel_transform' not in given:
        raise CheckpointError('it is folded for inference: name the file before folding')
    if not any('.updates.' in name for name in given):  # TOAST-Lite starts with updates of zero
        expected = {name: tensor for name, tensor in expected.items() if '.updates.' not in name}
    check_fit(expected, given, f'top-down module for {route}')
    if surplus := [name for name in given if name not in expected]:
        if any('.updates.' in name for name in surplus):
            raise CheckpointError('it is of TOAST-Lite, but this backbone has no low-rank updates')
        raise CheckpointError(
            f'it was tuned for another route than {route}: it also holds {", ".join(surplus)}'
        )
    return given


def _check_base(backbone: TransferBackbone, tuned_on: str) -> None:
    present = _base_fingerprint(backbone, backbone.state_dict())
    if tuned_on != present:
        raise CheckpointError(
            f'it was tuned on the base with fingerprint {tuned_on[:12]}, but this backbone has '
            f'{present[:12]}; load the base that it was tuned on by init_cfg'
        )


def _base_in_checkpoint(state_dict: Mapping[str, Tensor], backbone: TransferBackbone) -> str:
    """Fingerprint of the base that a checkpoint of a whole model holds."""
    prefix = next(name for name in state_dict if 'topdown.' in name).split('topdown.', 1)[0]
    beside = {
        name.removeprefix(prefix): tensor
        for name, tensor in state_dict.items()
        if name.startswith(prefix)
    }
    if all(name.startswith('topdown.') for name in beside):
        raise CheckpointError(
            'it does not say which base it was tuned on: it has neither the metadata of a file '
            'that toast_mm.PretunedHook writes nor the weights of the base'
        )
    return _base_fingerprint(backbone, beside)


def _base_fingerprint(backbone: TransferBackbone, state_dict: Mapping[str, Tensor]) -> str:
    return fingerprint(
        {
            name: tensor
            for name, tensor in state_dict.items()
            if backbone.is_base(name) and name not in backbone.resized_parameters
        }
    )
