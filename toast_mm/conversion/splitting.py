"""Splitting into training, validation and test images at random."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from toast_mm.conversion.items import ConversionError

SPLITS = ('train', 'val', 'test')


def group_names(names: Sequence[str], pattern: str | None) -> list[str]:
    """Group of every name: what the first group of a pattern matches, or the name itself.

    Raises:
        ConversionError: The pattern is wrong, has no group, or a name does not match.

    Example:
        >>> group_names(['drive1_000', 'drive1_001', 'drive2_000'], r'(.+)_\\d+')
        ['drive1', 'drive1', 'drive2']
    """
    if pattern is None:
        return list(names)
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConversionError(f'--group {pattern!r} is no regular expression: {error}') from error
    if not compiled.groups:
        raise ConversionError(
            f'--group {pattern!r} has no part in parentheses, which would name what stays together'
        )
    groups = []
    for name in names:
        match = compiled.search(name)
        if match is None or match[1] is None:
            raise ConversionError(
                f'--group {pattern!r} does not match {name!r}: names have no suffix, and no folder '
                'of a class or split'
            )
        groups.append(match[1])
    return groups


def split_at_random(
    groups: Sequence[str],
    labels: Sequence[set[str]],
    fractions: Mapping[str, float],
    seed: int,
) -> list[str]:
    """Draw a split for every image, so that each split has its share of every class.

    The rarest class comes first, and each of its groups goes where the class lacks most images, as
    in the iterative stratification of Sechidis et al. (2011). Images of a group stay together.

    Args:
        groups: Group of every image.
        labels: Classes in every image.
        fractions: Share of each split, which sum to 1.
        seed: Seed of the draw. The same images in another order give the same result.

    Returns:
        The split of every image.
    """
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    counts = {
        group: Counter(label for index in indices for label in labels[index])
        for group, indices in members.items()
    }
    draw = random.Random(seed)
    waiting = sorted(members)
    draw.shuffle(waiting)
    waiting.sort(key=lambda group: -len(members[group]))  # large ones first, they fit least
    splits = [split for split in SPLITS if fractions.get(split, 0) > 0]
    total: Counter[str] = sum(counts.values(), Counter())
    lacking = {s: {label: fractions[s] * n for label, n in total.items()} for s in splits}
    room = {split: fractions[split] * len(groups) for split in splits}
    chosen = {}
    while waiting:
        left: Counter[str] = Counter()
        for group in waiting:
            left.update(counts[group])
        rarest = min(left, key=lambda label: (left[label], label)) if left else None
        now = [group for group in waiting if rarest is None or counts[group][rarest]]
        for group in now:
            number = counts[group][rarest] if rarest is not None else len(members[group])
            of_class = {s: lacking[s].get(rarest, 0) for s in splits} if rarest else room
            fitting = [s for s in splits if of_class[s] > number - 1e-6]
            # What is left of a class goes where all classes together leave most room.
            left_for = of_class if fitting else room
            split = max(fitting or splits, key=lambda s: left_for[s])
            chosen[group] = split
            room[split] -= len(members[group])
            for label, number in counts[group].items():
                lacking[split][label] -= number
        taken = set(now)
        waiting = [group for group in waiting if group not in taken]
    return [chosen[group] for group in groups]
