"""Predictors by name that share a frozen backbone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from toast_mm.apis.batches import batches, collate
from toast_mm.apis.multi_task import MultiTask
from toast_mm.apis.pictures import list_pictures
from toast_mm.apis.predictor import Predictor
from toast_mm.apis.result_list import Results
from toast_mm.apis.results import Result


class Tasks(Mapping[str, Predictor]):
    """Predictors by name: the base is in memory once, and its first pass runs once for all.

    :class:`MultiTask` does the sharing and says which tasks can share. ``load({...})`` makes this.

    Args:
        predictors: Predictors by name.

    Raises:
        ValueError: A backbone is not of toast_mm, or the bases of two tasks differ.

    Example:
        >>> tasks = load({'birds': 'birds.safetensors', 'cars': 'cars.safetensors'})
        >>> tasks['birds'].predict('photo.jpg')     # one task
        >>> found = tasks.predict('photos')         # all, by one first pass
        >>> found['cars'][0].label
        >>> tasks.add('dogs', load('dogs.safetensors'))
    """

    def __init__(self, predictors: Mapping[str, Predictor]) -> None:
        self._predictors: dict[str, Predictor] = {}
        devices = [str(predictor.device) for predictor in predictors.values()]
        self._models = MultiTask(devices[0] if devices else 'cpu')
        for name, predictor in predictors.items():
            self.add(name, predictor)

    def add(self, name: str, predictor: Predictor) -> None:
        """Add a task; from now on its predictor shares the base with the others.

        Raises:
            ValueError: The name is taken, or the base is another one.
        """
        self._models.add_model(name, predictor.model)
        self._predictors[name] = predictor

    def predict(
        self,
        inputs: Any,
        names: str | Iterable[str] | None = None,
        batch_size: int = 8,
        progress: bool = True,
        on_error: str = 'raise',
    ) -> dict[str, Results[Any]]:
        """Predict the same images by several tasks.

        Tasks whose test pipelines are the same but for the packing share prepared images too.

        Args:
            inputs: As for :meth:`Predictor.predict`.
            names: Name of a task, or names of several. Defaults to all.
            batch_size: As for :meth:`Predictor.predict`.
            progress: As for :meth:`Predictor.predict`.
            on_error: As for :meth:`Predictor.predict`.

        Returns:
            The results of every task, by its name.

        Raises:
            KeyError: There is no task of this name.
            FileNotFoundError: As for :meth:`Predictor.predict`.
            TypeError: As for :meth:`Predictor.predict`.
            ValueError: As for :meth:`Predictor.predict`.
        """
        names = [names] if isinstance(names, str) else names
        wanted = {name: self[name] for name in (self if names is None else names)}
        found: dict[str, dict[int, Result]] = {name: {} for name in wanted}
        for group in _groups(wanted):
            preparation = wanted[group[0]].preparation
            pictures = list_pictures(inputs, preparation.suffixes, on_error == 'skip')
            for batch in batches(preparation, pictures, batch_size, progress, on_error):
                for name, predictions in self._models(collate(batch), group).items():
                    for (number, sample), prediction in zip(batch, predictions, strict=True):
                        found[name][number] = wanted[name].result(sample, prediction)
        return {name: Results(by[n] for n in sorted(by)) for name, by in found.items()}

    def __getitem__(self, name: str) -> Predictor:
        """The predictor of a task."""
        if name not in self._predictors:
            known = ', '.join(map(repr, self)) or 'none'
            raise KeyError(f'there is no task {name!r}; there are: {known}')
        return self._predictors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._predictors)

    def __len__(self) -> int:
        return len(self._predictors)

    def __repr__(self) -> str:
        lines = (f'  {name!r}: {predictor!r},' for name, predictor in self.items())
        return '\n'.join(['Tasks({', *lines, '})'])


def _groups(predictors: Mapping[str, Predictor]) -> list[list[str]]:
    """Names of the predictors whose images are prepared alike, segmentors first in each group.

    The samples that a segmentor's pipeline packs also do for a classifier.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(predictors, key=lambda n: predictors[n].is_segmentor, reverse=True):
        groups.setdefault(predictors[name].preparation.steps, []).append(name)
    return list(groups.values())
