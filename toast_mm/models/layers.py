"""Replacing layers by layers of another class; parameters and their names stay."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping
from copy import copy
from typing import Any, TypeVar

from torch import nn

Layer = TypeVar('Layer', bound=nn.Module)


def check_exact(layer: nn.Module, kinds: Collection[type], name: str, by: str) -> None:
    """Check that a layer is exactly of a known class and computes what this class does.

    A layer of any other class may have another forward, or be used in another way. Replacing it
    would silently lose that.

    Args:
        layer: The layer that will be replaced.
        kinds: The known classes. Their subclasses do not count.
        name: Name of the layer.
        by: Who replaces it, such as the name of a method.

    Raises:
        ValueError: The layer is of another class, or its forward or its weight was replaced.
    """
    kind = type(layer)
    problem = None
    if kind not in kinds:
        problem = f'a {kind.__module__}.{kind.__qualname__}'
    elif {'forward', '_compiled_call_impl'} & vars(layer).keys():
        problem = f'a {kind.__qualname__} whose forward was replaced'
    elif hasattr(layer, 'weight') and 'weight' not in layer._parameters:
        problem = f'a {kind.__qualname__} whose weight is computed from others'
    if problem:
        known = ', '.join(f'{known.__module__}.{known.__qualname__}' for known in kinds)
        raise ValueError(
            f'{by} does not fit {name}, which is {problem}: what it computes would be lost; {by} '
            f'fits layers that are exactly {known}'
        )


def give_subclass(layer: nn.Module, kind: type, subclass: type, name: str, by: str) -> None:
    """Change the class of a layer to a subclass without state, in place.

    This is for layers that a parent class builds without a way to choose their class.

    Raises:
        ValueError: See :func:`check_exact`.
    """
    check_exact(layer, [kind], name, by)
    layer.__class__ = subclass


def stand_in(layer: nn.Module, kind: type[Layer]) -> Layer:
    """Make a layer of another class with the parameters, the settings and the hooks of a layer.

    Both layers share the same parameters and hooks. What is added to the new one later is not
    shared.

    Args:
        layer: The layer that is replaced; it must not be used any more.
        kind: The class of the new layer.
    """
    other = kind.__new__(kind)
    vars(other).update(vars(layer))
    for names in ('_parameters', '_buffers', '_modules', '_non_persistent_buffers_set'):
        vars(other)[names] = copy(vars(layer)[names])
    hook: Any
    for hook in other._load_state_dict_pre_hooks.values():
        if vars(hook).get('with_module'):
            hook.module = weakref.ref(other)  # PyTorch stores the module with such a hook
    return other


def replace_layers(root: nn.Module, layers: Mapping[nn.Module, nn.Module]) -> None:
    """Replace layers below a module, under every name that they have there."""
    for parent in list(root.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and child in layers:
                setattr(parent, name, layers[child])
