"""Which task files the page offers, and loading those that are chosen."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from toast_mm.apis import Predictor, load
from toast_mm.engine.resumption import latest_checkpoint

SUFFIXES = ('.pth', '.safetensors')
_NUMBERED = re.compile(r'(iter|epoch)_\d+\.pth')


def find_task_files(places: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Find task files and other checkpoints.

    Args:
        places: Files, and folders that are searched with all folders below. Of the numbered
            checkpoints in a folder, only the newest is taken.

    Returns:
        Paths by the names that the page shows; and the older checkpoints, which are not taken.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: A file is no checkpoint.
    """
    found: dict[Path, None] = {}  # in order, each once
    older: list[str] = []
    for place in map(Path, places):
        if place.is_dir():
            for path in sorted(p for p in place.rglob('*') if p.suffix in SUFFIXES):
                if _NUMBERED.fullmatch(path.name) and str(path) != latest_checkpoint(
                    str(path.parent)
                ):
                    older.append(str(path))
                else:
                    found[path] = None
        elif not place.is_file():
            raise FileNotFoundError(f'{place}: there is no such task file or folder')
        elif place.suffix not in SUFFIXES:
            raise ValueError(f'{place} is no task file: its name must end in .pth or .safetensors')
        else:
            found[place] = None
    return _short_names([*found]), [path for path in older if Path(path) not in found]


def _short_names(paths: list[Path]) -> dict[str, str]:
    """Paths by their last two parts, or by as many as make them differ."""
    longest = max((len(path.parts) for path in paths), default=0)
    for number in range(2, longest + 1):
        names = {'/'.join(path.parts[-number:]): str(path) for path in paths}
        if len(names) == len(paths):
            return names
    return {str(path): str(path) for path in paths}


class TaskFiles(Mapping[str, Predictor]):
    """Predictors by name. A file is loaded when it is asked for; the last few stay in memory.

    Args:
        paths: Paths of the files by name.
        device: As for :func:`toast_mm.apis.load`. Defaults to None.
        kept: How many stay in memory. Defaults to 4.

    Example:
        >>> paths, older = find_task_files(['work_dirs'])
        >>> TaskFiles(paths)['birds/epoch_20.pth'].predict('sparrow.jpg')
    """

    def __init__(self, paths: Mapping[str, str], device: str | None = None, kept: int = 4) -> None:
        self._paths, self._device, self._kept = dict(paths), device, kept
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()

    def __getitem__(self, name: str) -> Predictor:
        """The predictor of a file.

        Raises:
            KeyError: No file has this name.
            CheckpointError: As :func:`toast_mm.apis.load`.
            ConfigError: As :func:`toast_mm.apis.load`.
        """
        path = self._paths[name]
        if name not in self._loaded:
            self._loaded[name] = load(path, device=self._device)
        self._loaded.move_to_end(name)
        while len(self._loaded) > self._kept:
            self._loaded.popitem(last=False)
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:  # Mapping's would load the file
        return name in self._paths

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)
