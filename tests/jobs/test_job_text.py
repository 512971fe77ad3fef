"""Settings as text: Python reads back what was written."""

import pytest

from toast_mm.jobs.text import Code, statement


@pytest.mark.parametrize(
    'value',
    [
        1, 0.5, True, None, 'a "quoted" \'text\'', 'é\n', [], {}, (), (1,), [1, (2, 3)],
        dict(a=1, b=dict(c=[1, 2])), {'not a name': 1, 'class': 2, 3: 4},
        [f'class {n} with a long name' for n in range(9)],
        dict(head=dict(type='A' * 60, loss=dict(type='B' * 40, weight=(1.0, 2.0)))),
        {'x y': ['z' * 90, {'deep': 'w' * 90}]},
    ],
)  # fmt: skip
def test_python_reads_it_back(value):
    text = statement('setting', value)
    read = {}
    exec(text, read)
    assert read['setting'] == value
    assert type(read['setting']) is type(value)


def test_lines_are_short_where_they_can_be():
    text = statement('model', dict(a='x' * 40, b=['y' * 30, 'z' * 30], c=dict(d='v' * 50)))
    assert max(map(len, text.splitlines())) <= 100
    assert text.splitlines()[0] == 'model = dict('
    assert statement('model', dict(head=dict(num_classes=3))) == (
        'model = dict(head=dict(num_classes=3))'
    )


def test_code_and_unpacked_dicts_stand_as_they_are():
    value = {'**_data': None, 'pipeline': Code('train_pipeline')}
    assert statement('dataset', value) == 'dataset = dict(**_data, pipeline=train_pipeline)'
    read = dict(_data=dict(root='r'), train_pipeline=[1])
    exec(statement('dataset', {'**_data': None, 'long': 'x' * 100}), read)
    assert read['dataset'] == dict(root='r', long='x' * 100)
