"""What a part of the package may know of the others, and what is up to the command lines."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import toast_mm

PACKAGE = Path(toast_mm.__file__).parent
MODULES = [
    path for path in sorted(PACKAGE.rglob('*.py')) if not {'.mim', 'configs'} & {*path.parts}
]


def imported(path: Path) -> Iterator[str]:
    """Modules and names that a module imports, wherever in it, as absolute names."""
    package = ['toast_mm', *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            module = '.'.join([*above, *filter(None, [node.module])])
            yield from (f'{module}.{alias.name}' for alias in node.names)


def test_nobody_imports_the_experiments():
    assert 'toast_mm.experiments.sweep.Run' in {name for path in MODULES for name in imported(path)}
    curious = [
        f'{path.relative_to(PACKAGE)}: {name}'
        for path in MODULES
        for name in imported(path)
        if 'experiments' not in path.relative_to(PACKAGE).parts
        and name.startswith('toast_mm.experiments')
    ]
    assert curious == []


def test_exits_are_up_to_the_tools():
    exits = [
        f'{path.relative_to(PACKAGE)}:{node.lineno}'
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and ast.unparse(node) == 'sys.exit')
        or (isinstance(node, ast.Name) and node.id in ('exit', 'quit', 'SystemExit'))
    ]
    assert exits == []


def test_parts_that_import_mm_packages_do_so_quietly():
    """Whichever part of the package is imported first."""
    noisy = {
        path.relative_to(PACKAGE).parts[0]
        for path in MODULES
        for name in imported(path)
        if name.startswith(('mmcv', 'mmpretrain', 'mmseg'))
    }
    assert {'engine', 'models', 'datasets'} <= noisy
    for part in noisy:
        first, *_ = ast.parse((PACKAGE / part / '__init__.py').read_text()).body[-2:]
        assert ast.unparse(first).startswith('with quiet_imports():'), part


def test_backbones_know_no_method():
    """Of methods they know the base alone; a method says itself what it does to a layer."""
    known = {
        '.'.join(name.split('.')[:4])
        for path in MODULES
        if 'backbones' in path.parts
        for name in imported(path)
        if name.startswith('toast_mm.models.peft')
    }
    assert known == {'toast_mm.models.peft.base'}
