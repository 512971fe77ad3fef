"""Configs that came with a file: read as settings, never run.

A config is Python. One that a person names is code and may run; one that a checkpoint or a work
directory brings along is somebody else's.
"""

from __future__ import annotations

import ast
from typing import Any

from toast_mm.trust import WAY_OUT


def read_settings(text: str) -> dict[str, Any]:
    """Settings of a config as mmengine dumps it, without running it.

    Args:
        text: Assignments of numbers, strings, lists, ``dict(...)`` and the like.

    Returns:
        Values by name. What is no plain value is left out, and so is everything if the text is no
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
    """Value of an expression that is plain; ``ast.literal_eval`` knows no ``dict(a=1)``.

    Raises:
        ValueError: It is something else.
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
    """Leave nothing to run in ``meta['config']``, in place.

    mmengine's ``Runner.resume`` runs it, if there is one, and wants ``gpu_ids``. mmengine itself
    writes its config elsewhere; this key is of mmcv 1.
    """
    meta = checkpoint.get('meta')
    if isinstance(meta, dict) and 'config' in meta:
        text = str(meta['config'])
        gpus = read_settings(text).get('gpu_ids')
        first = f'gpu_ids = {gpus!r}' if isinstance(gpus, (list, range)) else ''
        checkpoint['meta'] = dict(meta, config='\n# '.join([first, *text.splitlines()]))


def refused_config(checkpoint: dict[str, Any], name: str) -> dict[str, Any]:
    """A checkpoint whose config says, when it is run, that it is refused.

    mmengine's inferencers run the config of a checkpoint if none is named, and build what it names.

    Args:
        checkpoint: Content of a file.
        name: The file.
    """
    message = (
        f'the config in checkpoint {name} is refused, since a config is code: name a config file, '
        f'or, {WAY_OUT}'
    )
    refusal = f'raise __import__("toast_mm").trust.UntrustedFileError({message!r})'
    checkpoint = dict(checkpoint, meta=dict(checkpoint.get('meta') or {}, cfg=refusal))
    checkpoint.pop('message_hub', None)  # the other place where they look
    return checkpoint
