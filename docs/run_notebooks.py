"""Execute the notebooks of the documentation, and keep their outputs.

python docs/run_notebooks.py
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = sorted(Path(__file__).parent.glob('notebooks/*.ipynb'))


def execute(path: Path, folder: str) -> nbformat.NotebookNode:
    """Execute a notebook in a folder; its outputs do not name the folder.

    Raises:
        CellExecutionError: A cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=1800, resources=dict(metadata=dict(path=folder)))
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop('execution', None)  # times
        if cell.cell_type == 'code':  # warnings of libraries name their files
            cell.outputs = [o for o in cell.outputs if o.get('name') != 'stderr']
        for output in cell.get('outputs', ()):
            if 'text' in output:
                output['text'] = without(folder, output['text'])
            for kind, content in output.get('data', {}).items():
                if kind.startswith('text/'):
                    output['data'][kind] = without(folder, content)
    notebook.metadata.pop('language_info', None)  # the version of Python
    return notebook


def without(folder: str, text: str) -> str:
    """The text without the path of a folder, also where it is resolved."""
    for path in {folder, os.path.realpath(folder)}:
        text = text.replace(f'{path}/', '')
    return text


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(execute(path, folder), path)
        print(f'{path}: {path.stat().st_size / 2**10:.0f} KiB')


if __name__ == '__main__':
    main()
