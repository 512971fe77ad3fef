"""Comparing the settings of configs given as text, without running them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any


def read_settings(text: str) -> dict[str, Any]:
    """Settings of a config that mmengine wrote, such as ``meta['cfg']`` of a checkpoint.

    Nothing in it is run. Values that are not plain stay as text.

    Example:
        >>> read_settings("optimizer = dict(type='SGD', lr=-1e-3)\\nhook = print(3)")
        {'optimizer': {'type': 'SGD', 'lr': -0.001}, 'hook': 'print(3)'}

    Raises:
        SyntaxError: The text is not Python.
    """
    return {
        target.id: _value(statement.value)
        for statement in ast.parse(text).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }


def _value(node: ast.expr) -> Any:
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
        pairs = zip(node.keys, node.values, strict=True)
        return {key.value: _value(item) for key, item in pairs if isinstance(key, ast.Constant)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        keywords = {word.arg: _value(word.value) for word in node.keywords if word.arg}
        if len(keywords) == len(node.keywords) and not node.args:
            return keywords
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def differences(former: Any, present: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield the names of settings that differ with both values; a missing value is None."""
    if isinstance(former, dict) and isinstance(present, dict):
        for key in dict.fromkeys([*former, *present]):
            yield from differences(former.get(key), present.get(key), f'{name}.{key}')
    elif isinstance(former, list) and isinstance(present, list) and len(former) == len(present):
        for number, (one, other) in enumerate(zip(former, present, strict=True)):
            yield from differences(one, other, f'{name}[{number}]')
    elif former != present:
        yield name, former, present
