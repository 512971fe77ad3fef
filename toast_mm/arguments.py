"""Checking the types of arguments when an object is built or a function is called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, get_type_hints

from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

Class = TypeVar('Class')
Parameters = ParamSpec('Parameters')
Returned = TypeVar('Returned')


def check_arguments(cls: Class) -> Class:
    """Make a class check its arguments against the annotations of its ``__init__``.

    Settings come from configs and command lines, where ``lite=4`` or ``frozen=maybe`` is written
    easily. Without a check, the first fails somewhere in the class and the second counts as True.

    Args:
        cls: Class that defines ``__init__`` itself; anything else is returned unchanged.

    Returns:
        The class itself.

    Example:
        >>> @check_arguments
        ... class Scale:
        ...     def __init__(self, factor: float = 1.0) -> None:
        ...         self.factor = factor
        >>> Scale(factor='big')
        Traceback (most recent call last):
        TypeError: Scale: factor='big' must be float
    """
    plain = vars(cls).get('__init__') if inspect.isclass(cls) else None
    if inspect.isfunction(plain):
        checked = _checked(plain, lambda args: type(args[0]).__name__)
        setattr(cls, '__init__', checked)  # noqa: B010  mypy takes the assignment for unsound
    return cls


def check_call(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Make a function check its arguments against its annotations, for calls by people.

    Example:
        >>> @check_call
        ... def tune(backbone: str) -> None:
        ...     print(backbone.lower())
        >>> tune(None)
        Traceback (most recent call last):
        TypeError: tune: backbone=None must be str
    """
    return _checked(function, lambda args: function.__name__)


def _checked(
    function: Callable[Parameters, Returned], name_of: Callable[[tuple], str]
) -> Callable[Parameters, Returned]:
    """A function that checks its arguments first; errors call it by a name made from them."""
    signature = inspect.signature(function)
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    named = [
        name for name, kind in kinds.items() if kind not in (kind.VAR_POSITIONAL, kind.VAR_KEYWORD)
    ]

    @functools.wraps(function)
    def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        given = signature.bind_partial(*args, **kwargs).arguments
        hints = _hints(function)
        for name in named:
            if name in given and name in hints:
                annotation = function.__annotations__[name]
                _check(name_of(args), name, given[name], hints[name], annotation)
        return function(*args, **kwargs)

    return checked


@functools.cache
def _hints(function: Any) -> dict[str, Any]:
    return get_type_hints(function)


def _check(called: str, name: str, value: Any, hint: Any, annotation: Any) -> None:
    try:
        check_type(value, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError as error:
        text = isinstance(annotation, str)
        wanted = annotation if text else inspect.formatannotation(annotation)
        raise TypeError(f'{called}: {name}={value!r} must be {wanted}') from error
