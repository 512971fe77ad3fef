"""Random splits."""

from collections import Counter

import pytest

from toast_mm.conversion import ConversionError
from toast_mm.conversion.splitting import group_names, split_at_random

SHARES = dict(train=0.6, val=0.2, test=0.2)


def test_every_class_has_its_share():
    labels = [{'rare'}] * 10 + [{'common'}] * 200 + [{'some'}] * 45
    names = [f'{index:03}' for index in range(len(labels))]
    splits = split_at_random(names, labels, SHARES, seed=0)
    found = Counter((split, *label) for split, label in zip(splits, labels, strict=True))
    assert [found[split, 'rare'] for split in SHARES] == [6, 2, 2]
    assert [found[split, 'common'] for split in SHARES] == [120, 40, 40]
    assert [found[split, 'some'] for split in SHARES] == [27, 9, 9]


def test_images_of_several_classes():
    labels = [{'a'}] * 20 + [{'a', 'b'}] * 10 + [{'c', 'b'}] * 10 + [set()] * 10
    splits = split_at_random([*map(str, range(50))], labels, SHARES, seed=1)
    found = Counter((s, name) for s, label in zip(splits, labels, strict=True) for name in label)
    for name, total in (('a', 30), ('b', 20), ('c', 10)):
        for split, share in SHARES.items():
            assert found[split, name] == pytest.approx(share * total, abs=1)
    assert Counter(splits) == dict(train=30, val=10, test=10)


def test_seed_and_order():
    names = [f'{index:03}' for index in range(60)]
    labels = [{'ab'[index % 2]} for index in range(60)]
    one = split_at_random(names, labels, SHARES, seed=0)
    backwards = split_at_random(names[::-1], labels[::-1], SHARES, seed=0)
    assert one == backwards[::-1]
    assert one != split_at_random(names, labels, SHARES, seed=1)


def test_groups_stay_together():
    names = [f'video{video}_{frame:03}' for video in range(20) for frame in range(10)]
    groups = group_names(names, r'(.+)_\d+')
    splits = split_at_random(groups, [{'x'}] * 200, SHARES, seed=0)
    of_group = {}
    for group, split in zip(groups, splits, strict=True):
        assert of_group.setdefault(group, split) == split
    assert Counter(of_group.values()) == dict(train=12, val=4, test=4)


def test_no_validation_images():
    splits = split_at_random([*'abcd'], [set()] * 4, dict(train=0.5, val=0, test=0.5), seed=0)
    assert Counter(splits) == dict(train=2, test=2)


@pytest.mark.parametrize(
    'pattern, message',
    [
        (r'\d+', r"^--group '.*' has no part in parentheses"),
        (r'(\d+', '^--group .* is no regular expression'),
        (r'(x)', "^--group '\\(x\\)' does not match 'a_1': names have no suffix"),
        (r'(x)?a', "does not match 'a_1'"),
    ],
)
def test_wrong_pattern(pattern, message):
    with pytest.raises(ConversionError, match=message):
        group_names(['a_1'], pattern)
