"""The notebooks of the documentation run, and are kept with their outputs."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
from doc_pages import ROOT
from extras import is_installed

NOTEBOOKS = sorted((ROOT / 'docs/notebooks').glob('*.ipynb'))
# What a machine or a person could be recognised by.
PRIVATE = re.compile(
    r'/(?:home|root|tmp|usr|opt|work|mnt|Users|var)/|\b\d+\.\d+\.\d+\.\d+\b|hostname'
)


def outputs(path: Path) -> dict[str, list[dict]]:
    """Outputs of each cell of code, by its source."""
    cells = json.loads(path.read_text())['cells']
    return {''.join(c['source']): c['outputs'] for c in cells if c['cell_type'] == 'code'}


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_kept(path):
    kept = outputs(path)
    shown = [output for found in kept.values() for output in found]
    assert not [output for output in shown if output['output_type'] == 'error']
    assert len(shown) >= 5
    assert sum('image/png' in output.get('data', {}) for output in shown) >= 2
    cells = [c for c in json.loads(path.read_text())['cells'] if c['cell_type'] == 'code']
    assert [cell['execution_count'] for cell in cells] == [*range(1, len(cells) + 1)]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_say_nothing_of_a_machine(path):
    for source, found in outputs(path).items():
        text = json.dumps([{k: v for k, v in o.items() if k != 'data'} for o in found])
        text += json.dumps([o['data'].get('text/plain', '') for o in found if 'data' in o])
        assert not PRIVATE.search(text), f'{path.name}: the output of {source!r}'


def test_notebooks_are_small():
    assert len(NOTEBOOKS) == 2
    assert not [path.name for path in NOTEBOOKS if path.stat().st_size > 400_000]


@pytest.mark.slow
@pytest.mark.skipif(
    not is_installed('nbclient') or not is_installed('ipykernel'),
    reason='needs the extra: pip install "toast_mm[docs]"',
)
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    spec = importlib.util.spec_from_file_location('run_notebooks', ROOT / 'docs/run_notebooks.py')
    runner = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runner)
    notebook = runner.execute(path, str(tmp_path))
    kept = outputs(path)
    for cell in notebook.cells:
        if cell.cell_type == 'code':
            kinds = [output.output_type for output in cell.outputs]
            assert kinds == [output['output_type'] for output in kept[cell.source]]
