"""Reading config files, and replacing their settings from the command line."""

from __future__ import annotations

import argparse
import copy
import os
import os.path as osp
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from glob import escape, glob
from typing import Any

from mmengine.config import Config, DictAction

DATASET = 'DATASET'  # environment variable that chooses the data set of a config for several


class ConfigError(ValueError):
    """A config cannot be used; the message names the setting, the reason and a right value."""


def read_config(path: str) -> Config:
    """Read a config file.

    The config is not formatted by yapf when the run writes it: that takes a second at every start
    and every checkpoint, and turns a Ctrl-C during that time into a ``SyntaxError``.

    Args:
        path: Path of a config file of mmengine, usually ``.py``.

    Raises:
        ConfigError: There is no such file, it is not a config, or one of its bases is missing.
    """
    if not osp.isfile(path):
        raise ConfigError(f'config file {path} does not exist')
    if not path.endswith(('.py', '.json', '.yaml', '.yml')):
        raise ConfigError(f'config file {path} must end in .py')
    try:
        cfg = Config.fromfile(path, format_python_code=False)
    except (Exception, SystemExit) as error:
        if '_get_package_and_cfg_path' in str(error):  # mmengine requires a folder in the name
            why = (
                'the name of an inherited config needs a folder; for one in the top folder write '
                "'toast_mm::_base_/../NAME.py'"
            )
            raise ConfigError(f'config file {path} cannot be read: {why}') from error
        why = (
            _wrong_dataset(error)
            or _marked(error)
            or ' '.join(traceback.format_exception_only(error)[-1].split())
        )
        raise ConfigError(f'config file {path} cannot be read: {why}') from error
    if getattr(cfg, '_format_python_code', False):  # mmengine ignores the argument for text configs
        cfg = Config(
            cfg._cfg_dict,
            cfg_text=cfg.text,
            filename=cfg.filename,
            env_variables=cfg.env_variables,
            format_python_code=False,
        )
    return cfg


def _wrong_dataset(error: BaseException) -> str | None:
    """List valid values of ``DATASET``, if a base with it in its name is missing."""
    value = os.environ.get(DATASET)
    missing = str(error.filename) if isinstance(error, FileNotFoundError) else ''
    if not value or value not in missing:
        return None
    before, _, after = missing.rpartition(value)
    files = glob(f'{escape(before)}*{escape(after)}')
    values = sorted(file.removeprefix(before).removesuffix(after) for file in files)
    if not values:
        return None
    return f'the environment variable {DATASET}={value} must be one of {", ".join(values)}'


def _marked(error: BaseException) -> str | None:
    """Name the file that begins with the byte order mark of an editor, if one does.

    mmengine opens configs in several places, and none of them skips the mark.
    """
    if not any(words in str(error) for words in ('U+FEFF', 'UTF-8 BOM')):
        return None
    frames = traceback.walk_tb(error.__traceback__)
    names = [str(frame.f_locals.get('filename')) for frame, _ in frames]
    file = [name for name in names if osp.isfile(name)][-1]
    return f'{file} begins with a byte order mark: save it as UTF-8 without BOM'


def job_name(path: str, cfg: Config) -> str:
    """Name of a config file, followed by the data set if ``DATASET`` chooses it.

    Folders of runs have this name, so that data sets do not share one.
    """
    name = osp.splitext(osp.basename(path))[0]
    data = cfg.env_variables.get(DATASET)
    return f'{name}_{osp.basename(data)}' if data else name


def named_files(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield the files that a part of a config names, each after its dotted key."""
    if isinstance(value, str) and osp.isfile(value):
        yield key, value
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    for name, below in items:
        yield from named_files(below, f'{key}.{name}')


def near_names(name: str, known: Iterable[str]) -> str:
    """Up to three known names that resemble a name in any case, as ``; near names: A, B``."""
    by_lower = {item.lower(): item for item in sorted(known)}
    near = get_close_matches(name.lower(), by_lower, 3)
    return f'; near names: {", ".join(by_lower[item] for item in near)}' if near else ''


class ConfigOptions(DictAction):
    """mmengine's action for ``--cfg-options key=value``, with errors that name the setting."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Parse the settings, or end with a usage error that names the wrong one."""
        settings = [values] if isinstance(values, str) else list(values or [])
        for setting in settings:
            key, equals, _ = setting.partition('=')
            if not equals or not all(key.split('.')):
                parser.error(
                    f'{option_string}: {setting!r} must be key=value, such as '
                    'optim_wrapper.optimizer.lr=0.01'
                )
            try:
                super().__call__(parser, namespace, [setting], option_string)
            except AssertionError:
                parser.error(f'{option_string}: the brackets of {setting!r} do not match')


def apply_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Replace settings of a config.

    Args:
        cfg: The config, which is changed.
        options: Values by dotted key: ``{'optim_wrapper.optimizer.lr': 0.01}``.

    Raises:
        ConfigError: A key leads through a value that has no keys.
    """
    try:
        cfg.merge_from_dict(copy.deepcopy(dict(options)))  # mmengine removes _delete_ from it
    except _MERGE_ERRORS as error:
        raise ConfigError(
            f'{_culprit(cfg, options)} does not fit the config: {error.args[0]}'
        ) from error


# Errors of mmengine's merging when a key leads through a value that has no keys.
_MERGE_ERRORS = (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError)


def _culprit(cfg: Config, options: Mapping[str, Any]) -> str:
    """Find the first setting that cannot be merged on its own."""
    for key, value in options.items():
        try:
            copy.deepcopy(cfg).merge_from_dict({key: copy.deepcopy(value)})
        except _MERGE_ERRORS:
            return f'{key}={value!r}'
    return ', '.join(f'{key}={value!r}' for key, value in options.items())
