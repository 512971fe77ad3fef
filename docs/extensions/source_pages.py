"""Pages for the files and folders that links in the documentation name and that are no documents.

A code host shows such a file, or the contents of the folder. The site does the same: a link to
``configs/_base_/default_runtime.py`` leads to a page with its code, and a link to a folder to its
page ``README.md`` or, without one, to a list of its files.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments.lexers import find_lexer_class_for_filename
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform

PAGES = 'files'


class FindSourceLinks(SphinxTransform):
    """Turns links that MyST takes for downloads or for unknown names into links to these pages."""

    default_priority = 400

    def apply(self) -> None:
        for kind in (addnodes.download_reference, addnodes.pending_xref):
            for node in list(self.document.findall(kind)):
                if node.get('reftype') == 'myst' and not node.get('refdomain'):
                    self._point_to_source(node)

    def _point_to_source(self, node: nodes.Element) -> None:
        _, path = self.env.relfn2path(node['reftarget'], self.env.docname)
        if Path(path).exists():
            link = addnodes.pending_xref(
                '',
                *node.children,
                refdomain='',
                reftype='source',
                refdoc=self.env.docname,
                reftarget=Path(path).relative_to(self.env.srcdir).as_posix(),
            )
            node.replace_self(link)


class SourcePages:
    """Resolves the links, and makes a page for every file that one of them leads to."""

    def __init__(self) -> None:
        self.paths: set[Path] = set()

    def resolve(
        self, app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.Node
    ) -> nodes.reference | None:
        if node.get('reftype') != 'source':
            return None
        readme = f'{node["reftarget"]}/README'
        if readme in env.found_docs:
            page = readme
        else:
            page = f'{PAGES}/{node["reftarget"]}'
            self.paths.add(Path(node['reftarget']))
        uri = app.builder.get_relative_uri(node['refdoc'], page)
        return nodes.reference('', '', *node.children, internal=True, refuri=uri)

    def collect(self, app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
        root = Path(app.srcdir)
        folders = {path for path in self.paths if (root / path).is_dir()}
        inside = {folder: sorted(_files(root / folder)) for folder in folders}
        for folder, files in inside.items():
            names = ''.join(
                f'<li><a href="{escape(folder.name)}/{escape(name)}.html">{escape(name)}</a></li>'
                for name in files
            )
            yield _page(folder, f'<ul>{names}</ul>')
        files = self.paths - folders | {
            folder / name for folder in folders for name in inside[folder]
        }
        for path in sorted(files):
            lexer = find_lexer_class_for_filename(path.name)
            language = lexer.aliases[0] if lexer else 'text'
            code = (root / path).read_text()
            yield _page(path, app.builder.highlighter.highlight_block(code, language))


def _files(folder: Path) -> Iterator[str]:
    return (path.name for path in folder.iterdir() if path.suffix in ('.py', '.yml', '.md'))


def _page(path: Path, content: str) -> tuple[str, dict[str, Any], str]:
    context = {'title': path.as_posix(), 'body': f'<h1>{escape(path.as_posix())}</h1>{content}'}
    return f'{PAGES}/{path.as_posix()}', context, 'page.html'


def setup(app: Sphinx) -> dict[str, bool]:
    pages = SourcePages()
    app.add_transform(FindSourceLinks)
    app.connect('missing-reference', pages.resolve)
    app.connect('html-collect-pages', pages.collect)
    return {'parallel_read_safe': True, 'parallel_write_safe': False}
