"""Keys of configs that are ours: who reads them, and that somebody does."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from difflib import get_close_matches

from mmengine.logging import MessageHub

# Top-level keys that toast_mm.Runner reads, and what does the same under any other Runner.
OURS = dict(
    task_files="custom_hooks=[dict(type='toast_mm.TaskFileHook')]",
    first_pass_cache="custom_hooks=[dict(type='toast_mm.FirstPassCacheHook')]",
    resume_settings="custom_hooks=[dict(type='toast_mm.ResumeHook', settings='config')]",
    channels_last='model.to(memory_format=torch.channels_last)',
)
_READ = 'toast_mm_keys_are_read'


def check_names(keys: Iterable[str]) -> None:
    """Refuse top-level keys that are nearly the name of one of ours; nobody would read them.

    All others are left alone: configs of mm have private keys.

    Raises:
        ValueError: Names the key and the one that is meant.
    """
    for key in keys:
        near = get_close_matches(key, OURS, n=1, cutoff=0.85)
        if near and key not in OURS:
            raise ValueError(
                f'nobody reads the key {key!r} of the config: it must be named {near[0]!r}; a '
                'private key needs a name that differs more from it'
            )


def note_reader(hub: MessageHub) -> None:
    """Note that the Runner of this hub reads our keys.

    On the hub itself: of its ``runtime_info`` mmengine would warn when a training is resumed.
    """
    setattr(hub, _READ, True)


def check_reader() -> None:
    """Refuse our keys in the config of a run whose Runner does not read them.

    A backbone asks for this when a Runner has its weights initialised. mmengine's
    ``RuntimeInfoHook`` has then put the text of the config into the current ``MessageHub``, which
    is what a model can know of its run.

    Raises:
        ValueError: Names the key and what to write in its place.
    """
    hub = MessageHub.get_current_instance()
    info = hub.runtime_info
    if getattr(hub, _READ, False) or 'cfg' not in info:
        return
    asked = _asked_keys(info['cfg'])
    unread = [key for key in OURS if key in asked]
    try:
        check_names(asked)
        if unread:
            raise ValueError(
                f'nobody reads the key {unread[0]!r} of the config: toast_mm.Runner does '
                f"(runner_type='toast_mm.Runner'); under another Runner say {OURS[unread[0]]}"
            )
    except ValueError:
        del info['cfg']  # models that are built after this run failed are not of it
        raise


def _asked_keys(text: str) -> list[str]:
    """Top-level keys of a config in Python that are not None or False; nothing is executed."""
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return []
    return [
        target.id
        for node in body
        if isinstance(node, ast.Assign)
        and not (isinstance(node.value, ast.Constant) and node.value.value in (None, False))
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
