"""benchmarks/cost.py: its bounds on FLOPs hold, and a broken one is reported."""

import runpy
import sys
from pathlib import Path

import pytest

from toast_mm.models import TOASTViT

ROOT = Path(__file__).parents[2]


def check(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['cost.py', '--check'])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / 'benchmarks' / 'cost.py'), run_name='__main__')
    return ended.value.code


@pytest.mark.slow
def test_bounds(monkeypatch, capsys):
    assert check(monkeypatch) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(' folded', 1)[0].split(',')[0] for line in printed] == [
        'forward of last',
        'forward of early',
        'forward of late',
        'step of last to full fine-tuning: 1.222',
    ]


@pytest.mark.slow
def test_a_broken_bound(monkeypatch, capsys):
    """Without folding the bound is broken."""
    monkeypatch.setattr(TOASTViT, 'fold', lambda backbone: backbone.eval())
    assert check(monkeypatch) == 1
    assert 'broken: forward of last, folded, to the plain backbone' in capsys.readouterr().out
