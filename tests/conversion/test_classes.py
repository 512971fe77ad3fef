"""Files and numbers of classes."""

import pytest

from toast_mm.conversion import ConversionError, read_classes
from toast_mm.conversion.classes import hex_colour, lines_of, number_classes


def test_file_of_classes(tmp_path):
    path = tmp_path / 'classes.txt'
    path.write_text('# name R G B\nroad 128 64 128\n\ntraffic sign 220 220 0\nroom 101\n')
    classes = read_classes(path)
    assert [*classes.items()] == [
        ('road', (128, 64, 128)), ('traffic sign', (220, 220, 0)), ('room 101', None)
    ]  # fmt: skip
    colours = dict(road=(1, 2, 3), sky=(0, 0, 0))
    path.write_text(lines_of(['sky', 'road'], colours))
    assert read_classes(path) == dict(sky=(0, 0, 0), road=(1, 2, 3))
    path.write_text(lines_of(['sky', 'car'], colours))
    assert read_classes(path) == dict(sky=None, car=None)


@pytest.mark.parametrize(
    'text, message',
    [
        ('a\nb\na\n', ":3: the class 'a' is there already"),
        ('a 1 2 3\nb 1 2 3\n', ":2: 'a' has the colour of 'b' already"),
        ('a 1 2 300\n', ":1: 'a 1 2 300' has a colour beyond 255"),
        ('# nothing\n', 'names no class'),
    ],
)
def test_wrong_file(tmp_path, text, message):
    (tmp_path / 'classes.txt').write_text(text)
    with pytest.raises(ConversionError, match=message):
        read_classes(tmp_path / 'classes.txt')


def test_numbers():
    assert number_classes({'b', 'a', 'z'}, ['z'], 'ground', ['b']) == dict(
        ground=0, z=1, a=2, b=255
    )
    assert number_classes({'b', 'a'}, [], None) == dict(a=0, b=1)
    assert number_classes({'a', 'ground'}, ['a', 'ground'], 'ground') == dict(ground=0, a=1)
    with pytest.raises(ConversionError, match='256 classes: a mask has room for 255'):
        number_classes(map(str, range(255)), [], 'ground')


def test_hex_colour():
    assert hex_colour('#0a10ff') == (10, 16, 255)
    assert [hex_colour(text) for text in ('red', '#12', None, '')] == [None] * 4
