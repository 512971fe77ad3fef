"""benchmarks/cost.py: bounds on FLOPs hold, a broken one is reported, ViTs of timm are counted."""

import argparse
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def its_folder(monkeypatch):
    """Python adds the folder of a program that is started from a shell."""
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['cost.py', *arguments])
    return runpy.run_path(str(ROOT / 'benchmarks' / 'cost.py'), run_name='__main__')


def check(monkeypatch):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, '--check')
    return ended.value.code


@pytest.mark.slow
def test_bounds(monkeypatch, capsys):
    assert check(monkeypatch) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(', at most')[0] for line in printed] == [
        'forward of last, folded, to the plain backbone: 2.073',
        'forward of early, folded, to the plain backbone: 1.536',
        'forward of late, folded, to the plain backbone: 1.536',
        'forward of last, first pass at 1/2, folded, to the plain backbone: 1.266',
        'forward of last, first pass at 1/3, folded, to the plain backbone: 1.138',
        'step of last to full fine-tuning: 1.222',
        'step of last, first pass at 1/2 to full fine-tuning: 0.809',
    ]


def test_a_broken_bound(monkeypatch, capsys):
    import cost

    def counts(row: str, args: argparse.Namespace) -> cost.Cost:
        forward = 2.1 if row == 'TOAST folded, last' else 1.0
        return cost.Cost(0, forward, 0.7 if 'first pass' in row else 1.0)

    monkeypatch.setattr(cost, 'counts', counts)
    monkeypatch.setattr(sys, 'argv', ['cost.py', '--check'])
    with pytest.raises(SystemExit) as ended:
        cost.main()
    assert ended.value.code == 1
    broken = [line for line in capsys.readouterr().out.splitlines() if line.startswith('broken')]
    assert broken == ['broken: forward of last, folded, to the plain backbone']


@pytest.mark.slow
def test_a_model_of_timm_is_counted(monkeypatch, capsys):
    run(monkeypatch, '--arch', 'test_vit', '--count')
    title, _, head, _, *rows = capsys.readouterr().out.strip().splitlines()
    assert title == 'ViT test_vit, 224 x 224, counted'
    cells = {row.split('|')[1].strip(): row.count('|') for row in rows}
    assert {'plain', 'TOAST, last', 'LoRA, rank 4', 'full fine-tuning'} <= cells.keys()
    assert set(cells.values()) == {head.count('|')}
    assert 'as published' not in ' '.join(cells)


@pytest.mark.slow
def test_counts_of_the_largest_backbone_are_those_of_the_table():
    """The row of COST.md that docs/scaling.md extrapolates from."""
    counts = runpy.run_path(str(ROOT / 'benchmarks' / 'cost.py'))['counts']
    arch = 'vit_7b_patch16_dinov3'
    args = argparse.Namespace(arch=arch, img_size=224, route='last', dense=False)
    cost = counts('TOAST, last', args)
    found = f'{cost.tuned / 1e6:.2f}M | {cost.forward_flops / 1e9:.2f} |'
    table = (ROOT / 'benchmarks' / 'COST.md').read_text().split(arch)[-1]
    assert f'| TOAST, last | {found}' in table
    assert f' {cost.step_flops / 1e9:.2f} |' in table


@pytest.mark.slow
@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['--arch', 'bse'], '--arch bse is no model of timm, and none of these: s, small'),
        (['--arch', 'test_vit', '--dense'], '--dense is for architectures of mmpretrain'),
    ],
)
def test_wrong_arguments(monkeypatch, capsys, arguments, complaint):
    with pytest.raises(SystemExit):
        run(monkeypatch, *arguments)
    assert complaint in capsys.readouterr().err
