"""Pre-tuned top-down modules as adapter checkpoints, which belong to one base."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor

from toast_mm.files import save_safetensors
from toast_mm.topdown import FeedbackRoute

from .adapter import RECORD, fingerprint_of, make_record, record_in
from .coverage import check_fit
from .finite import check_finite
from .io import CheckpointError
from .loadable import LoadableBackbone


def save_pretuned(backbone: LoadableBackbone, path: str) -> None:
    """Write only the top-down module of a backbone, with the record of its base.

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
    tensors[RECORD] = make_record(backbone, _base_names(backbone))
    save_safetensors(tensors, path, {})


def load_pretuned(backbone: LoadableBackbone, checkpoint: str) -> None:
    """Load a pre-tuned top-down module into a backbone with loaded base weights.

    Args:
        backbone: Takes the module.
        checkpoint: Path or URL.

    Raises:
        CheckpointError: See :func:`read_pretuned`.
    """
    given = read_pretuned(backbone, checkpoint, backbone.state_dict())
    assert backbone.topdown is not None, 'prepare() refuses pretuned without one'
    backbone.topdown.load_state_dict(given, strict=False)  # it fits, but for updates of zero
    print_log(f'The top-down module is that of {checkpoint}', logger='current')


def read_pretuned(
    backbone: LoadableBackbone, checkpoint: str, base: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Read the weights of a pre-tuned top-down module.

    Args:
        backbone: Backbone with the module. It does not change.
        checkpoint: Path or URL of a file of :func:`save_pretuned`, of a task file, or of a
            checkpoint of a whole model.
        base: Weights of the base that the module will work on, by name.

    Raises:
        CheckpointError: The module was tuned on another base, or is of another width or route, or
            there is none, or the file is damaged.
    """
    assert backbone.topdown is not None, 'prepare() refuses pretuned without one'
    file = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    weights = file.get('state_dict', file)
    try:
        record = record_in(weights, file.get('meta'))
        if record and record['route'] and FeedbackRoute(**record['route']) != backbone.route:
            route = FeedbackRoute(**record['route'])
            raise CheckpointError(f'it was tuned for {route}, but this is {backbone.route}')
        bands = record['signature'].get('in_channels', 3) if record else backbone.in_channels
        if bands != backbone.in_channels:
            raise CheckpointError(
                f'it was tuned with in_channels={bands}, but this backbone has '
                f'in_channels={backbone.in_channels}'
            )
        given = _topdown_weights(weights, backbone.topdown.state_dict(), backbone.route)
        tuned_on = record['fingerprint'] if record else _base_beside(backbone, weights)
        present = fingerprint_of(base, _base_names(backbone))
        if tuned_on != present:
            raise CheckpointError(
                f'it was tuned on the base with fingerprint {tuned_on[:12]}, but this backbone has '
                f'{present[:12]}; load the base that it was tuned on by init_cfg'
            )
    except CheckpointError as error:
        raise CheckpointError(f'pretuned={checkpoint!r}: {error}') from error
    for name, value in record['signature'].items() if record else ():
        if value != backbone.steering_signature.get(name, value):
            print_log(f'{checkpoint} was tuned with {name}={value}', 'current', logging.WARNING)
    return given


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


def _base_beside(backbone: LoadableBackbone, state_dict: Mapping[str, Tensor]) -> str:
    """Fingerprint of the base that a checkpoint of a whole model holds."""
    prefix = next(name for name in state_dict if 'topdown.' in name).split('topdown.', 1)[0]
    beside = {
        name.removeprefix(prefix): tensor
        for name, tensor in state_dict.items()
        if name.startswith(prefix)
    }
    if all(name.startswith('topdown.') for name in beside):
        raise CheckpointError(
            'it does not say which base it was tuned on: it has neither the record of a file '
            'that toast_mm.PretunedHook writes nor the weights of the base'
        )
    names = [n for n in beside if backbone.is_base(n) and n not in backbone.resized_parameters]
    return fingerprint_of(beside, names)


def _base_names(backbone: LoadableBackbone) -> list[str]:
    """Names of the weights that tell a base from others."""
    return [
        name
        for name in backbone.state_dict()
        if backbone.is_base(name) and name not in backbone.resized_parameters
    ]
