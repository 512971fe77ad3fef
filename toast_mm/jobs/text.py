"""Settings as the text of a config, in the style of the configs of this package."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from typing import Any

_WIDTH = 100
_INDENT = '    '


class Code(str):
    """An expression that stands in a config as it is, such as ``_base_.train_pipeline``."""


def statement(name: str, value: Any) -> str:
    """An assignment, over several lines if it is long.

    Args:
        name: Name of the setting.
        value: Numbers, texts, lists, dicts, and :class:`Code`. In a dict, a key ``'**name'`` stands
            for the items of the dict ``name``; its value is not read.

    Example:
        >>> statement('model', dict(head=dict(num_classes=3)))
        'model = dict(head=dict(num_classes=3))'
    """
    return f'{name} = {_expression(value, len(name) + 3, "")}'


def _expression(value: Any, used: int, indent: str) -> str:
    """A value; ``used`` columns of its line are taken already, and one is kept for a comma."""
    flat = _flat(value)
    if used + len(flat) < _WIDTH or isinstance(value, Code) or not value:
        return flat
    below = indent + _INDENT
    if isinstance(value, Mapping) and _is_plain(value):
        items = [_item(key, item, below) for key, item in value.items()]
        opened, closed = 'dict(', ')'
    elif isinstance(value, Mapping):
        start = [f'{key!r}: ' for key in value]
        items = [
            s + _expression(item, len(below + s), below)
            for s, item in zip(start, value.values(), strict=True)
        ]
        opened, closed = '{', '}'
    elif isinstance(value, (list, tuple)):
        items = [_expression(item, len(below), below) for item in value]
        opened, closed = ('[', ']') if isinstance(value, list) else ('(', ')')
    else:
        return flat
    return f'{opened}\n' + ''.join(f'{below}{item},\n' for item in items) + indent + closed


def _item(key: str, value: Any, indent: str) -> str:
    if key.startswith('**'):
        return key
    return f'{key}={_expression(value, len(f"{indent}{key}="), indent)}'


def _flat(value: Any) -> str:
    """A value in one line."""
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, Mapping) and _is_plain(value):
        items = (key if key.startswith('**') else f'{key}={_flat(v)}' for key, v in value.items())
        return f'dict({", ".join(items)})'
    if isinstance(value, Mapping):
        return f'{{{", ".join(f"{key!r}: {_flat(item)}" for key, item in value.items())}}}'
    if isinstance(value, list):
        return f'[{", ".join(map(_flat, value))}]'
    if isinstance(value, tuple):
        return f'({", ".join(map(_flat, value))}{"," * (len(value) == 1)})'
    return repr(value)


def _is_plain(value: Mapping) -> bool:
    """Whether all keys can be arguments of ``dict()``; ``**name`` unpacks a dict."""
    names = [str(key).removeprefix('**') for key in value]
    return all(name.isidentifier() and not keyword.iskeyword(name) for name in names)
