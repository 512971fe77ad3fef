"""Finding the layers of a backbone that a method is for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from toast_mm.models.backbones.transfer import TransferBackbone


def find_layers(
    backbone: TransferBackbone, targets: str | Sequence[str], kind: type[nn.Module]
) -> dict[str, Any]:
    """Layers of one class by name, chosen as in ``peft``.

    Args:
        backbone: Where to look.
        targets: A regular expression that matches whole names, or a sequence of last parts of
            names, such as ``('attn.qkv',)``.
        kind: Class of the layers.

    Raises:
        ValueError: See :func:`find_fitting`.
    """
    return find_fitting(
        backbone, targets, lambda layer: isinstance(layer, kind), f'{kind.__name__} layer'
    )


def find_fitting(
    backbone: TransferBackbone,
    targets: str | Sequence[str],
    fits: Callable[[nn.Module], bool],
    what: str,
    argument: str = 'targets',
) -> dict[str, Any]:
    """Layers that fit by name, chosen as in ``peft``.

    Args:
        backbone: Where to look.
        targets: See :func:`find_layers`.
        fits: Whether a method fits a layer.
        what: What such a layer is called in errors.
        argument: What the argument is called that gives the targets. Defaults to ``'targets'``.

    Raises:
        ValueError: A target matches no layer, or is not a regular expression.
    """
    layers = {name: module for name, module in backbone.base_modules() if fits(module)}
    patterns = [targets] if isinstance(targets, str) else list(targets)
    found: dict[str, Any] = {}
    for pattern in patterns:
        if isinstance(targets, str):
            try:
                names = [name for name in layers if re.fullmatch(pattern, name)]
            except re.error as error:
                raise ValueError(
                    f'{argument}={targets!r} is not a regular expression ({error}); give last '
                    'parts of names as a tuple'
                ) from error
        else:
            names = [name for name in layers if f'.{name}'.endswith(f'.{pattern}')]
        if not names:
            there = dict.fromkeys(re.sub(r'\.\d+(?=\.)', '.*', name) for name in layers)
            regex = ' as a regular expression for whole names' if isinstance(targets, str) else ''
            raise ValueError(
                f'{argument}={targets!r}: {pattern!r}{regex} matches no {what} of '
                f'{type(backbone).__name__}; there are: {", ".join(there) or "none"}'
            )
        found.update((name, layers[name]) for name in names)
    return found
