"""Tables and the curve."""

import csv
import io
from statistics import mean

import pytest
from matplotlib.axes import Axes
from PIL import Image

from toast_mm.experiments.published import FGVC, PUBLISHED
from toast_mm.experiments.results import Result
from toast_mm.experiments.tables import (
    add_published,
    cells,
    collect,
    comma_separated,
    draw_curve,
    latex,
    markdown,
    spread,
)

VIT = 'vit-b16-in1k'
RESULTS = [
    Result('toast', VIT, 'cars', 0, 80.0, 14_750_000),
    Result('toast', VIT, 'cub', 0, 60.0, 14_750_000),
    Result('toast', VIT, 'cub', 1, 64.0, 14_750_000),
    Result('linear', VIT, 'cub', 0, 50.04, 0),
]


@pytest.fixture
def rows():
    return collect(RESULTS)


def test_cells(rows):
    """Columns as in the paper; a mean where there is a value for each."""
    assert cells(rows) == [
        ['backbone', 'method', 'tuned', 'cub', 'cars', 'mean'],
        [VIT, 'toast', '14.75M', '62.0 ± 2.8', '80.0', '71.0'],
        [VIT, 'linear', '0', '50.0', '', ''],
    ]


def test_one_column(rows):
    assert cells(collect(RESULTS[3:]))[0] == ['backbone', 'method', 'tuned', 'cub']


def test_published(rows):
    table = cells(add_published(rows))
    methods = (
        'Linear',
        'Fine-tune',
        'VPT',
        'LoRA',
        'TOAST-Lite',
        'TOAST',
        'TOAST-Early',
        'TOAST-Late',
    )
    assert [row[1] for row in table[1:9]] == [f'{method} (paper)' for method in methods]
    assert table[6] == [VIT, 'TOAST (paper)', '', '85.0', '84.5', '84.8']
    assert table[9:] == cells(rows)[1:]
    other = collect([Result('toast', 'vit-1m', 'cub', 0, 1.0, 5)])
    assert add_published(other) == other


def test_published_means():
    """As printed; the printed mean of LoRA is 79.8, which is not that of its row."""
    printed = {'Linear': 72.8, 'Fine-tune': 81.1, 'VPT': 78.0, 'TOAST-Lite': 86.0, 'TOAST': 86.2}
    for method, expected in printed.items():
        figures = PUBLISHED[VIT, method]
        assert mean(figures[name] for name in FGVC) == pytest.approx(expected, abs=0.051)
        assert len(figures) in (5, 24)
    for backbone, expected in (('convnext-b-in1k', 89.8), ('vit-l16-in21k', 88.4)):
        figures = PUBLISHED[backbone, 'TOAST']
        assert mean(figures[name] for name in FGVC) == pytest.approx(expected, abs=0.051)


def test_formats(rows):
    table = cells(rows)
    assert markdown(table).splitlines()[:3] == [
        '| backbone | method | tuned | cub | cars | mean |',
        '|---|---|---|---|---|---|',
        f'| {VIT} | toast | 14.75M | 62.0 ± 2.8 | 80.0 | 71.0 |',
    ]
    assert list(csv.reader(io.StringIO(comma_separated(table)))) == table
    text = latex([['a_b', 'c', 'd'], ['1 ± 2', '', '3']])
    assert r'a\_b & c & d \\' in text and r'1 $\pm$ 2 &  & 3 \\' in text
    assert text.startswith(r'\begin{tabular}{llr}') and text.endswith(r'\end{tabular}')


def test_one_training_twice():
    with pytest.raises(ValueError, match='toast on vit-b16-in1k, cub, seed 1 occurs twice'):
        collect([*RESULTS, RESULTS[2]])


def test_spread():
    assert (spread([]), spread([3.0]), spread([1.0, 2.0, 3.0])) == ('', '3.0', '2.0 ± 1.0')


def test_curve(rows, tmp_path, monkeypatch):
    rows = collect([*RESULTS[1:3], Result('toast-lite', VIT, 'cub', 0, 70.0, 740_000)])
    rows += collect([Result('lora', VIT, 'cub', 0, 65.0, 300_000)])
    drawn = []
    plain = Axes.errorbar
    monkeypatch.setattr(
        Axes, 'errorbar', lambda *a, **k: drawn.append((a[1:], k)) or plain(*a, **k)
    )
    draw_curve(rows, str(tmp_path / 'curve.png'), 'top-1')
    (toast, lite), others = drawn[0], drawn[1]
    assert toast == ((740_000, 14_750_000), (70.0, 62.0), (0.0, pytest.approx(8**0.5)))
    assert lite['fmt'] == 'o-' and others[1]['fmt'] == 'D'
    assert others[0][:2] == ((300_000,), (65.0,))
    assert Image.open(tmp_path / 'curve.png').size == (900, 600)
    with pytest.raises(ValueError, match='no row has both'):
        draw_curve(collect(RESULTS[3:]), str(tmp_path / 'none.png'), 'top-1')
    assert not (tmp_path / 'none.png').exists()
