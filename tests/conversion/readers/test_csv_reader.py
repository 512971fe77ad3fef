"""Tables of images and classes."""

import pytest

from toast_mm.conversion import ConversionError
from toast_mm.conversion.readers import read_csv
from toast_mm.text_files import NotTextError


@pytest.fixture
def read(tmp_path):
    def read(text, **options):
        (tmp_path / 'table.csv').write_text(text, encoding='utf-8-sig')
        return read_csv(tmp_path / 'table.csv', **options)

    return read


def rows(found):
    return [(item.name, item.label, item.split) for item in found.items]


@pytest.mark.parametrize('header', ['', 'path,label,split\n'])
def test_three_columns(read, tmp_path, header):
    found = read(f'{header}x/a.jpg,cat,train\n\n"b, c.png",a big dog,Validation\n')
    assert rows(found) == [('x/a', 'cat', 'train'), ('b, c', 'a big dog', 'val')]
    assert found.items[0].image == tmp_path / 'x' / 'a.jpg'
    assert found.items[1].source.endswith('table.csv:4' if header else 'table.csv:3')


def test_two_columns(read, tmp_path):
    found = read('a.jpg,cat\nb.jpg,dog\n', images=tmp_path / 'photos')
    assert rows(found) == [('a', 'cat', None), ('b', 'dog', None)]
    assert found.items[0].image == tmp_path / 'photos' / 'a.jpg'


def test_other_columns(read):
    table = 'id\tspecies\tfile\tset\n1\twren\ta.jpg\ttest\n2\trobin\tb.jpg\ttrain\n'
    columns = dict(path='file', label='species')
    assert rows(read(table, columns=columns, delimiter='\t')) == [
        ('a', 'wren', None), ('b', 'robin', None)
    ]  # fmt: skip
    found = read(table, columns=columns | dict(split='set'), delimiter='\t')
    assert [item.split for item in found.items] == ['test', 'train']


@pytest.mark.parametrize(
    'text, columns, message',
    [
        ('a.jpg,cat,train,7\n', {}, r'table\.csv:1 has 4 columns: a\.jpg,cat,train,7'),
        ('a.jpg\n', {}, r'table\.csv:1 has 1 columns'),
        ('path,label\na.jpg\n', {}, r'table\.csv:2 has 1 columns'),
        ('a.jpg,cat,later\n', {}, r":1: 'later' is no split: train, training, val"),
        ('a.jpg,cat\na.jpg,dog\n', {}, r":2: a\.jpg is 'dog', but 'cat' in line 1"),
        ('name,label\n', dict(path='file'), "has no column 'file', but name, label"),
        ('path,class,split\n', {}, "has no column 'label', but path, class, split: .*--label-col"),
        ('path,label\n', dict(split='set'), "has no column 'set', but path, label"),
        ('\n', {}, 'is empty'),
    ],
)
def test_wrong_tables(read, text, columns, message):
    with pytest.raises(ConversionError, match=message):
        read(text, columns=columns)


def test_skipped_rows(read):
    found = read('a.jpg,cat\nb.jpg,\n,cat\na.jpg,cat\n')
    assert rows(found) == [('a', 'cat', None)]
    reasons = [one.why for one in found.skipped]
    assert reasons == ['it has no class', 'it has no path', 'a.jpg is in line 1 already']


def test_another_encoding(tmp_path):
    path = tmp_path / 'table.csv'
    path.write_bytes('a.jpg,b\xe4r\n'.encode('latin-1'))
    with pytest.raises(NotTextError, match=r'table\.csv is not text in UTF-8: .* at byte 7'):
        read_csv(path)


def test_a_row_of_several_lines(read):
    assert rows(read('a.jpg,"big\ndog"\nb.jpg,cat\n')) == [
        ('a', 'big\ndog', None),
        ('b', 'cat', None),
    ]
