"""tools/analysis_tools/analyze_logs.py over work directories."""

import json
import re

import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, start in (('one', 4.0), ('two', 8.0)):
        log = tmp_path / name / '20260101_000000' / 'vis_data' / 'scalars.json'
        log.parent.mkdir(parents=True)
        records = [
            dict(loss=start / number, iter=10 * number, step=10 * number) for number in (1, 2, 4)
        ]
        records.append({'accuracy/top1': 5 * start, 'step': 40})
        log.write_text('\n'.join(map(json.dumps, records)))


def test_table_and_picture(tool, capsys):
    keys = ('--keys', 'loss', 'accuracy/top1')
    tool('analysis_tools/analyze_logs', 'one', 'two/', *keys, '--out', 'two.png')
    out = capsys.readouterr().out
    rows = [re.split(r' *\| *', line)[1:-1] for line in out.splitlines() if line.startswith('| ')]
    assert rows[1:] == [
        ['one', 'loss', '3', '4', '1', '1', '4', 'iteration 40'],
        ['two', 'loss', '3', '8', '2', '2', '8', 'iteration 40'],
        ['one', 'accuracy/top1', '1', '20', '20', '20', '20', 'iteration 40'],
        ['two', 'accuracy/top1', '1', '40', '40', '40', '40', 'iteration 40'],
    ]
    tool('analysis_tools/analyze_logs', 'one', '--out', 'one.png')
    with Image.open('one.png') as one, Image.open('two.png') as two:
        assert two.width == 2 * one.width


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ('nowhere', 'nowhere does not exist'),
        ('one --keys mIoU', '--keys mIoU: one has no such values, but accuracy/top1, loss'),
        (
            'one --out one/20260101_000000/vis_data/scalars.png',
            r'scalars\.png exists already: choose another path, or add',
        ),
    ],
)
def test_mistakes(tool, tmp_path, arguments, sentence):
    (tmp_path / 'one/20260101_000000/vis_data/scalars.png').touch()
    with pytest.raises(SystemExit, match=sentence):
        tool('analysis_tools/analyze_logs', *arguments.split())


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ('one one', 'one is there twice: name each run once'),
        ('one --legend a b', '--legend has 2 titles for 1 runs'),
        ('one --out curves.json', '--out curves.json must end in .png, .pdf or .svg'),
    ],
)
def test_arguments(tool, capsys, arguments, sentence):
    with pytest.raises(SystemExit) as exit_:
        tool('analysis_tools/analyze_logs', *arguments.split())
    assert exit_.value.code == 2
    assert sentence in capsys.readouterr().err
