"""The Markdown files of the repository and what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ('*.md', 'docs/**/*.md', 'benchmarks/*.md', 'configs/**/*.md')
    for path in ROOT.glob(pattern)
    if '_build' not in path.parts
)
# The comment stands on the line before a block whose commands a test runs.
RUNNABLE = '<!-- tested: this block is run -->'
# Words in capitals, such as JOB or CHECKPOINT, stand for something of the reader's.
PLACEHOLDER = re.compile(r'(?<![A-Za-z])(?!README|RESULTS|COST)[A-Z][A-Z_]+(?![a-z])')


@dataclass
class Block:
    """A block of code of a page."""

    page: Path
    line: int
    language: str
    code: str
    runnable: bool

    def __str__(self) -> str:
        return f'{self.page.relative_to(ROOT)}:{self.line}'


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page that are in one of these languages."""
    return [block for block in _blocks(page) if block.language in languages]


def _blocks(page: Path) -> Iterator[Block]:
    above = ''
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == 'fence' and token.map:
            yield Block(
                page, token.map[0] + 1, token.info.strip(), token.content, above == RUNNABLE
            )
        above = token.content.strip()


def links(page: Path) -> Iterator[str]:
    """Targets of the links and pictures of a page."""
    for token in MarkdownIt().enable('table').parse(page.read_text()):
        for part in token.children or []:
            target = part.attrGet('href') or part.attrGet('src')
            if target:
                yield str(target)


def inline_code(page: Path) -> Iterator[str]:
    """Code in the text of a page."""
    for token in MarkdownIt().enable('table').parse(page.read_text()):
        for part in token.children or []:
            if part.type == 'code_inline':
                yield part.content


def anchors(page: Path) -> set[str]:
    """Names that a code host gives to the headings of a page."""
    tokens = MarkdownIt().parse(page.read_text())
    titles = [
        ''.join(
            part.content for part in token.children or [] if part.type in ('text', 'code_inline')
        )
        for before, token in pairwise(tokens)
        if before.type == 'heading_open'
    ]
    return {re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-') for title in titles}
