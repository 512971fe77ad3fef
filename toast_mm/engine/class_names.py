"""Comparing the meaning of labels in two sources, such as a data set and a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COMPARED = ('classes', 'class_folders', 'reduce_zero_label')


def meaning_of_labels(dataset: Any) -> dict[str, Any]:
    """Meaning of the labels of a data set, or of the first one below a wrapper.

    Returns:
        A dict of the keys that are known. ``classes`` are the names in order. ``class_folders`` are
        the folders that mmpretrain's ``CustomDataset`` numbers, if names are given as well.
        ``reduce_zero_label`` is mmseg's setting.
    """
    leaf = first_leaf(dataset)
    meaning = from_metainfo(getattr(dataset, 'metainfo', None) or getattr(leaf, 'metainfo', None))
    folders = getattr(leaf, 'folder_to_idx', None)
    if folders and sorted(folders, key=folders.get) != meaning.get('classes'):
        meaning['class_folders'] = sorted(folders, key=folders.get)
    return meaning


def from_metainfo(metainfo: Any) -> dict[str, Any]:
    """Meaning of labels from the ``metainfo`` of a data set or ``dataset_meta`` of a checkpoint."""
    metainfo = metainfo if isinstance(metainfo, Mapping) else {}
    meaning: dict[str, Any] = {}
    if metainfo.get('classes'):
        meaning['classes'] = list(metainfo['classes'])
    if metainfo.get('reduce_zero_label') is not None:
        meaning['reduce_zero_label'] = bool(metainfo['reduce_zero_label'])
    return meaning


def first_leaf(dataset: Any) -> Any:
    """The first data set below wrappers."""
    while True:
        below = getattr(dataset, 'datasets', None)
        below = below[0] if below else getattr(dataset, 'dataset', None)
        if below is None:
            return dataset
        dataset = below


def leaves(dataset: Any) -> list[Any]:
    """All data sets below wrappers."""
    below = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    return [leaf for part in below for leaf in leaves(part)] if below[0] is not None else [dataset]


def difference(
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    one_source: str,
    other_source: str,
    compare: Sequence[str] = COMPARED,
) -> str | None:
    """Describe the first difference between two sources in a sentence; None if there is none.

    Args:
        one: From :func:`meaning_of_labels`.
        other: From :func:`meaning_of_labels`.
        one_source: Name of the first source in the sentence, such as 'the test data set'.
        other_source: Name of the second source.
        compare: Which of :data:`COMPARED` to compare.
    """
    for key in compare:
        if key not in one or key not in other or one[key] == other[key]:
            continue
        if key == 'reduce_zero_label':
            return (
                f'{one_source} has reduce_zero_label={one[key]}, but {other_source} has '
                f'{other[key]}: the same mask means different classes in both.'
            )
        thing = 'class' if key == 'classes' else 'the folder of class'
        return _different_names(one[key], other[key], one_source, other_source, thing)
    return None


def _different_names(one: list, other: list, one_source: str, other_source: str, thing: str) -> str:
    if len(one) == len(other):
        indices = [i for i, names in enumerate(zip(one, other, strict=True)) if len({*names}) > 1]
        first = indices[0]
        order = ' The names are the same, but in another order.' if {*one} == {*other} else ''
        return (
            f'{thing} {first} is {one[first]!r} in {one_source}, but {other[first]!r} in '
            f'{other_source} ({len(indices)} of {len(one)} differ).{order}'
        )
    lacking = [name for name in other if name not in one]
    besides = [name for name in one if name not in other]
    parts = [f'it lacks {_some(lacking)}'] * bool(lacking)
    parts += [f'it also has {_some(besides)}'] * bool(besides)
    return (
        f'{one_source} has {len(one)} classes, but {other_source} has {len(other)}: '
        f'{" and ".join(parts)}, so that a number does not mean the same class in both.'
    )


def _some(names: list) -> str:
    more = f' and {len(names) - 5} more' if len(names) > 5 else ''
    return ', '.join(map(repr, names[:5])) + more
