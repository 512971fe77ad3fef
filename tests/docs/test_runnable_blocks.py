"""The commands that the documentation marks as tested run, in the order of their page."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from doc_pages import PAGES, ROOT, blocks

RUNNABLE = {
    page: [block for block in blocks(page, 'bash', 'python') if block.runnable] for page in PAGES
}


@pytest.mark.slow
@pytest.mark.parametrize(
    'page',
    [page for page in PAGES if RUNNABLE[page]],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_blocks_run(page, tmp_path):
    """In an empty folder with links to the tools and configs of the checkout."""
    for folder in ('configs', 'tools'):
        (tmp_path / folder).symlink_to(ROOT / folder)
    script = f'set -e\npython() {{ {sys.executable} "$@"; }}\n'
    for number, block in enumerate(RUNNABLE[page]):
        if block.language == 'python':
            (tmp_path / f'block_{number}.py').write_text(block.code)
            script += f'python block_{number}.py\n'
        else:
            script += block.code
    result = subprocess.run(
        ['bash', '-c', script],
        cwd=tmp_path,
        env={
            **os.environ,
            'PYTHONPATH': str(ROOT),
            'OMP_NUM_THREADS': '1',
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-4000:]


def test_blocks_are_marked():
    marked = [block for found in RUNNABLE.values() for block in found]
    text = ''.join(page.read_text() for page in PAGES)
    assert len(marked) == text.count('<!-- tested: this block is run -->\n```') >= 3
