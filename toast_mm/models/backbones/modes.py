"""Which modules of a backbone are in training mode, and when.

Frozen modules never are. In the first pass no module is, so that it is a fixed function of the
image. In the second pass stochastic depth and the dropout of a method act while the model trains.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import timm.layers
from mmcv.cnn.bricks import DropPath
from torch import nn

from toast_mm.models.peft.base import TuningDropout


@contextmanager
def set_modes(modes: Mapping[nn.Module, bool]) -> Iterator[None]:
    """Put single modules (without their children) into training mode, or not, for a while."""
    changed = [module for module, training in modes.items() if module.training is not training]
    for module in changed:
        module.training = not module.training
    try:
        yield
    finally:
        for module in changed:
            module.training = not module.training


def first_pass_modes(modules: Iterable[nn.Module]) -> dict[nn.Module, bool]:
    """All modules in eval mode."""
    return dict.fromkeys(modules, False)


def second_pass_modes(modules: Iterable[nn.Module], training: bool) -> dict[nn.Module, bool]:
    """Modules with random dropping in the mode of the backbone. Others keep their mode."""
    kinds = (DropPath, timm.layers.DropPath, TuningDropout)
    return {module: training for module in modules if isinstance(module, kinds)}
