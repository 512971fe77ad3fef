"""Configs that come with a file: read as settings, never run.

A config is Python code. A config that the user names may run. A config inside a checkpoint or a
work directory may be somebody else's and must not.
"""

from __future__ import annotations

import ast
from typing import Any

from toast_mm.trust import WAY_OUT


def read_settings(text: str) -> dict[str, Any]:
    """Read the settings of a config that mmengine dumped, without running it.

    Args:
        text: Assignments of numbers, strings, lists, ``dict(...)`` and the like.

    Returns:
        Plain values by name. Other values are left out. The result is empty if the text is not
        Python.
    """
    settings = {}
    try:
        for statement in ast.parse(text).body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                try:
                    settings[statement.targets[0].id] = _value(statement.value)
                except ValueError:
                    continue
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    return settings


def _value(node: ast.expr) -> Any:
    """Value of a plain expression; ``ast.literal_eval`` does not support ``dict(a=1)``.

    Raises:
        ValueError: The expression is not plain.
    """
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(k): _value(v) for k, v in zip(node.keys, node.values, strict=True) if k}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        named = {item.arg: _value(item.value) for item in node.keywords if item.arg}
        if len(named) == len(node.keywords):
            values = [_value(item) for item in node.args]
            if node.func.id == 'dict' and not values:
                return named
            if node.func.id == 'range' and not named and all(type(v) is int for v in values):
                return range(*values)
    return ast.literal_eval(node)


def plain_config(checkpoint: dict[str, Any]) -> None:
    """Turn ``meta['config']`` into comments, except ``gpu_ids``; in place.

    mmengine's ``Runner.resume`` runs this config if there is one, to get ``gpu_ids``. The key is
    from mmcv 1; mmengine itself writes its config elsewhere.
    """
    meta = checkpoint.get('meta')
    if isinstance(meta, dict) and 'config' in meta:
        text = str(meta['config'])
        gpus = read_settings(text).get('gpu_ids')
        first = f'gpu_ids = {gpus!r}' if isinstance(gpus, (list, range)) else ''
        checkpoint['meta'] = dict(meta, config='\n# '.join([first, *text.splitlines()]))


def refused_config(checkpoint: dict[str, Any], name: str) -> dict[str, Any]:
    """Copy a checkpoint with a config that raises an error when it is run.

    mmengine's inferencers run the config in a checkpoint if the caller names none.

    Args:
        checkpoint: Content of a file.
        name: The file.
    """
    message = (
        f'the config in checkpoint {name} is refused, since a config is code: name a config file; '
        f'or {WAY_OUT}'
    )
    refusal = f'raise __import__("toast_mm").trust.UntrustedFileError({message!r})'
    checkpoint = dict(checkpoint, meta=dict(checkpoint.get('meta') or {}, cfg=refusal))
    checkpoint.pop('message_hub', None)  # inferencers look here as well
    return checkpoint
