"""Layers of other classes in the place of those that are there: parameters and names stay."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping
from copy import copy
from typing import Any, TypeVar

from torch import nn

Layer = TypeVar('Layer', bound=nn.Module)


def check_exact(layer: nn.Module, kinds: Collection[type], name: str, by: str) -> None:
    """Check that a layer computes what its class does, and is of a class that is known.

    A layer of any other class has a forward of its own or is used in a way of its own, which
    another class would silently replace or miss.

    Args:
        layer: What shall get another class.
        kinds: Classes that are known; a subclass of one of them is not.
        name: Name of the layer.
        by: What asks for it, such as the name of a method.

    Raises:
        ValueError: The layer is of none of these classes, or something in it was replaced.
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
            f'{by} does not fit {name}, which is {problem}: what that computes would be lost; it '
            f'fits layers that are exactly {known}'
        )


def give_subclass(layer: nn.Module, kind: type, subclass: type, name: str, by: str) -> None:
    """Give a layer of exactly this class a subclass without state, in place.

    Its parent builds it and offers no way to build another one.

    Raises:
        ValueError: See :func:`check_exact`.
    """
    check_exact(layer, [kind], name, by)
    layer.__class__ = subclass


def stand_in(layer: nn.Module, kind: type[Layer]) -> Layer:
    """A layer of another class with the parameters, the settings and the hooks of a layer.

    Both hold the same parameters and hooks; what the new one is given besides is its own.

    Args:
        layer: What is replaced, and not used any more.
        kind: The other class.
    """
    other = kind.__new__(kind)
    vars(other).update(vars(layer))
    for names in ('_parameters', '_buffers', '_modules', '_non_persistent_buffers_set'):
        vars(other)[names] = copy(vars(layer)[names])
    hook: Any
    for hook in other._load_state_dict_pre_hooks.values():
        if vars(hook).get('with_module'):
            hook.module = weakref.ref(other)  # PyTorch keeps the module beside such a hook
    return other


def replace_layers(root: nn.Module, layers: Mapping[nn.Module, nn.Module]) -> None:
    """Put layers in the place of others, under every name that these have below a module."""
    for parent in list(root.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and child in layers:
                setattr(parent, name, layers[child])
