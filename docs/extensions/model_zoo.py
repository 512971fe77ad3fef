"""The directive ``model-zoo``: tables of all jobs, from ``model-index.yml`` and its metafiles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class ModelZoo(SphinxDirective):
    """A section with a table per folder of configs."""

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        index = root / 'model-index.yml'
        metafiles = [root / name for name in yaml.safe_load(index.read_text())['Import']]
        for path in (index, *metafiles):
            self.env.note_dependency(str(path))
        up = '../' * self.env.docname.count('/')
        lines = [line for path in metafiles for line in section(path, root, up)]
        return self.parse_text_to_nodes('\n'.join(lines), allow_section_headings=True)


def section(metafile: Path, root: Path, up: str) -> Iterator[str]:
    """Markdown of the models of a metafile; ``up`` leads from the page to the root."""
    models = yaml.safe_load(metafile.read_text()).get('Models', [])
    folder = metafile.parent.relative_to(root).as_posix()
    yield from (f'## [{folder}]({up}{folder})', '')
    yield from ('| config | method | tuned parameters | of | result |', '|---|---|---:|---:|---|')
    for model in models:
        tuned, whole = (model['Metadata'][key] for key in ('Tuned Parameters', 'Parameters'))
        name = f'[{model["Name"]}]({up}{model["Config"]})'
        if 'Weights' in model:
            name += ' (weights in the package)'
        cells = name, model['In Collection'], millions(tuned), millions(whole), results(model)
        yield f'| {" | ".join(cells)} |'
    yield ''


def results(model: dict[str, Any]) -> str:
    """The measured figures, such as ``Top 1 Accuracy 47.1 (Cued digits)``."""
    return '; '.join(
        f'{metric} {value} ({result["Dataset"]})'
        for result in model.get('Results', [])
        for metric, value in result['Metrics'].items()
    )


def millions(number: int) -> str:
    return f'{number / 1e6:.2f}M'


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive('model-zoo', ModelZoo)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
