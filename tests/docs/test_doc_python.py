"""Python in the documentation: it compiles, its names exist, and configs can be read."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import textwrap
from collections.abc import Iterator

import pytest
from doc_pages import PAGES, PLACEHOLDER, ROOT, blocks, inline_code
from mmengine.config import Config
from mmengine.registry import Registry

from toast_mm import registry

BLOCKS = [block for page in PAGES for block in blocks(page, 'python', 'py')]
REGISTRIES = [value for value in vars(registry).values() if isinstance(value, Registry)]


def parsed(code: str) -> ast.Module:
    """The syntax of a block, which may be a part of a dict of a config."""
    try:
        return ast.parse(code)
    except SyntaxError:
        return ast.parse(f'dict(\n{code}\n)')


def imports(tree: ast.Module) -> Iterator[tuple[str, str | None]]:
    """Modules of this package, and what is imported from them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((str(node.module), alias.name) for alias in node.names)


def is_known(name: str) -> bool:
    """Whether a config or Python finds something by this name."""
    if any(entries.get(name) for entries in REGISTRIES):
        return True
    try:
        return bool(pkgutil.resolve_name(name))
    except (AttributeError, ImportError):
        return False


def is_config(code: str) -> bool:
    return code.startswith(('_base_ =', 'custom_imports ='))


@pytest.mark.parametrize('block', BLOCKS, ids=str)
def test_names_exist(block):
    tree = parsed(block.code)
    for module, name in imports(tree):
        if module.split('.')[0] == 'toast_mm':
            found = importlib.import_module(module)
            assert name in (None, '*') or hasattr(found, name), f'{module} has no {name}'
    for name in re.findall(r'\btoast_mm(?:\.\w+)+(?=[\'(])', block.code):
        assert is_known(name), f'there is no {name}'


# The changelog also names what is gone.
@pytest.mark.parametrize(
    'page',
    [page for page in PAGES if page.name != 'CHANGELOG.md'],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_names_in_the_text_exist(page):
    for name in inline_code(page):
        if re.fullmatch(r'toast_mm(\.\w+)+', name):
            assert is_known(name), f'there is no {name}'
        if re.fullmatch(r'(configs|docs|tests|tools|toast_mm)/[\w./-]+', name):
            assert (ROOT / name).exists() or PLACEHOLDER.search(name), f'there is no {name}'


@pytest.mark.parametrize('block', [b for b in BLOCKS if is_config(b.code)], ids=str)
def test_configs_can_be_read(block, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(with_paths(block.code))
    (tmp_path / 'my_upernet_config.py').write_text('model = dict(type="EncoderDecoder")')
    keys = {target.id for node in ast.parse(block.code).body for target in _targets(node)}
    read = Config.fromfile(config)
    assert {key for key in keys if not key.startswith('_')} <= {*read}


def with_paths(code: str) -> str:
    """The code with the path of each config of this project that it names without a folder."""

    def path(match: re.Match) -> str:
        found = [*ROOT.glob(f'configs/**/{match[1]}')]
        return repr(str(found[0])) if len(found) == 1 else match[0]

    return re.sub(r"'\./([\w.-]+\.py)'", path, code)


def _targets(node: ast.stmt) -> list[ast.Name]:
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [target for target in targets if isinstance(target, ast.Name)]


def test_a_wrong_name_is_found():
    tree = parsed(
        textwrap.dedent("""
        from toast_mm.apis import load
        import torch
    """)
    )
    assert [*imports(tree)] == [('toast_mm.apis', 'load'), ('torch', None)]
    assert len(REGISTRIES) > 5
    assert is_known('toast_mm.TOASTViT') and is_known('toast_mm.checkpoint.trusted')
    assert not is_known('toast_mm.TOASTVit') and not is_known('toast_mm.checkpoint.trust')


def test_a_part_of_a_config_compiles():
    assert parsed('backbone=dict(\n    type="x"),\nhead=None')
    with pytest.raises(SyntaxError):
        parsed('backbone=dict(')
