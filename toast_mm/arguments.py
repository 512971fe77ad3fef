"""Checking the types of arguments when an object is built."""

from __future__ import annotations

import functools
import inspect
from typing import Any, TypeVar, get_type_hints

from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

Class = TypeVar('Class')


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
    if not inspect.isfunction(plain):
        return cls
    signature = inspect.signature(plain)
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    named = [
        name for name, kind in kinds.items() if kind not in (kind.VAR_POSITIONAL, kind.VAR_KEYWORD)
    ]

    @functools.wraps(plain)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        given = signature.bind_partial(self, *args, **kwargs).arguments
        hints = _hints(plain)
        for name in named:
            if name in given and name in hints:
                _check(type(self), name, given[name], hints[name], plain.__annotations__[name])
        plain(self, *args, **kwargs)

    setattr(cls, '__init__', checked)  # noqa: B010  mypy takes the assignment for unsound
    return cls


@functools.cache
def _hints(function: Any) -> dict[str, Any]:
    return get_type_hints(function)


def _check(cls: type, name: str, value: Any, hint: Any, annotation: Any) -> None:
    try:
        check_type(value, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError as error:
        text = isinstance(annotation, str)
        wanted = annotation if text else inspect.formatannotation(annotation)
        raise TypeError(f'{cls.__name__}: {name}={value!r} must be {wanted}') from error
