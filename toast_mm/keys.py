"""Top-level config keys of toast_mm: the hooks they stand for, and whether a Runner reads them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from mmengine.logging import MessageHub


class Switch(NamedTuple):
    """The hook that a top-level key stands for.

    Args:
        hook: Name of the hook in this package.
        argument: The argument of the hook that takes a value other than True and a dict.
    """

    hook: str
    argument: str | None = None


# toast_mm.Runner reads these keys. Under any other Runner custom_hooks name the hook.
SWITCHES = {
    'task_files': Switch('TaskFileHook'),
    'first_pass_cache': Switch('FirstPassCacheHook'),
    'channels_last': Switch('ChannelsLastHook'),
    'resume_settings': Switch('ResumeHook', 'settings'),
    'compile': Switch('CompileHook'),
}
# mmengine's Runner reads this key as well: it compiles whole steps.
OURS = [key for key in SWITCHES if key != 'compile']
_READ = 'toast_mm_keys_are_read'


def asked_hooks(cfg: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Make the configs of the hooks that the keys of a config stand for.

    Raises:
        ValueError: The hook does not take this value.
    """
    asked = {}
    for key, (hook, argument) in SWITCHES.items():
        value = cfg.get(key)
        if _is_off(value):
            continue
        if isinstance(value, Mapping):
            arguments = dict(value)
        elif value is True:
            arguments = {}
        elif argument is not None:
            arguments = {argument: value}
        else:
            raise ValueError(
                f'{key}={value!r} must be True, False or a dict of the arguments of toast_mm.{hook}'
            )
        asked[key] = dict(type=f'toast_mm.{hook}', **arguments)
    return asked


def _is_off(value: Any) -> bool:
    return value is None or value is False


def check_names(keys: Iterable[str]) -> None:
    """Check that no top-level key is a misspelt key of ours, which would be ignored.

    All other keys are allowed, since configs of mm have private keys.

    Raises:
        ValueError: A key is misspelt; the message gives the right name.
    """
    for key in keys:
        near = get_close_matches(key, OURS, n=1, cutoff=0.85)
        if near and key not in OURS:
            raise ValueError(
                f'nobody reads the key {key!r} of the config: it must be named {near[0]!r}; a '
                'private key needs a name that differs more'
            )


def note_reader(hub: MessageHub) -> None:
    """Mark on a hub that its Runner reads our keys.

    The mark is an attribute: mmengine would warn about an entry of ``runtime_info`` on resuming.
    """
    setattr(hub, _READ, True)


def has_reader(hub: MessageHub) -> bool:
    """Whether the Runner of this hub reads our keys."""
    return getattr(hub, _READ, False)


def check_reader_of(runner: Any) -> None:
    """Check that the config of a Runner has no keys of ours that it ignores; called by our hooks.

    Raises:
        ValueError: A key is ignored; the message says what to write instead.
    """
    hub = runner.message_hub
    if not has_reader(hub):
        _check_read(hub, [key for key, value in runner.cfg.items() if not _is_off(value)])


def check_reader() -> None:
    """Check that the config of the current run has no keys of ours that its Runner ignores.

    A backbone calls this when a Runner initialises its weights. mmengine's ``RuntimeInfoHook`` has
    then put the text of the config into the current ``MessageHub``, where a model can read it.

    Raises:
        ValueError: A key is ignored; the message says what to write instead.
    """
    hub = MessageHub.get_current_instance()
    if not has_reader(hub) and 'cfg' in hub.runtime_info:
        _check_read(hub, _asked_keys(hub.runtime_info['cfg']))


def _check_read(hub: MessageHub, keys: list[str]) -> None:
    """Raise an error for keys of ours and misspelt ones."""
    try:
        check_names(keys)
        for key in OURS:
            if key in keys:
                hook, argument = SWITCHES[key]
                arguments = f', {argument}=...' if argument else ''
                raise ValueError(
                    f'nobody reads the key {key!r} of the config: toast_mm.Runner does '
                    f"(runner_type='toast_mm.Runner'); under another Runner write "
                    f"custom_hooks=[dict(type='toast_mm.{hook}'{arguments})]"
                )
    except ValueError:
        hub.runtime_info.pop('cfg', None)  # later models are not part of this failed run
        raise


def _asked_keys(text: str) -> list[str]:
    """Top-level keys of a Python config that are not None or False; the config is not run."""
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return []
    return [
        target.id
        for node in body
        if isinstance(node, ast.Assign)
        and not (isinstance(node.value, ast.Constant) and _is_off(node.value.value))
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
