"""Which parts of the package may import which, and what only command lines may do."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import toast_mm

PACKAGE = Path(toast_mm.__file__).parent
MODULES = [
    path
    for path in sorted(PACKAGE.rglob('*.py'))
    if path.relative_to(PACKAGE).parts[0] not in ('.mim', 'configs')
]


def module_name(path: Path) -> str:
    return '.'.join(['toast_mm', *path.relative_to(PACKAGE).with_suffix('').parts]).removesuffix(
        '.__init__'
    )


def imported(path: Path) -> Iterator[str]:
    """Modules and names that a module imports, anywhere and for annotations too, in full."""
    package = ['toast_mm', *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            module = '.'.join([*above, *filter(None, [node.module])])
            yield from (f'{module}.{alias.name}' for alias in node.names)


def known_modules(path: Path) -> set[str]:
    """Modules of the package that a module imports."""
    names = {module_name(other) for other in MODULES}
    found = set()
    for name in imported(path):
        while name and name not in names:
            name = name.rpartition('.')[0]
        found.add(name)
    return found - {'', module_name(path)}


def test_no_imports_run_in_a_circle():
    graph = {module_name(path): known_modules(path) for path in MODULES}
    assert 'toast_mm.checkpoint.base' in graph['toast_mm.models.backbones.transfer']
    graphlib.TopologicalSorter(graph).prepare()  # a CycleError names the circle


def test_arrows_go_down():
    """A part imports itself and later parts; all may import modules outside the parts."""
    parts = ['experiments', 'engine', 'models', 'checkpoint', 'topdown']
    upward = [
        f'{module_name(path)}: {name}'
        for number, part in enumerate(parts)
        for path in MODULES
        if path.relative_to(PACKAGE).parts[0] == part
        for name in known_modules(path)
        if name.split('.')[1:2] and name.split('.')[1] in parts[:number]
    ]
    assert upward == []


def test_nothing_imports_the_experiments():
    assert 'toast_mm.experiments.sweep.Run' in {name for path in MODULES for name in imported(path)}
    curious = [
        f'{path.relative_to(PACKAGE)}: {name}'
        for path in MODULES
        for name in imported(path)
        if 'experiments' not in path.relative_to(PACKAGE).parts
        and name.startswith('toast_mm.experiments')
    ]
    assert curious == []


def test_only_tools_exit():
    exits = []
    for path in MODULES:
        nodes = [*ast.walk(ast.parse(path.read_text()))]
        handled = [node.type for node in nodes if isinstance(node, ast.ExceptHandler) and node.type]
        caught = [name for kind in handled for name in ast.walk(kind)]
        exits += [
            f'{path.relative_to(PACKAGE)}:{node.lineno}'
            for node in nodes
            if (isinstance(node, ast.Attribute) and ast.unparse(node) == 'sys.exit')
            or (isinstance(node, ast.Name) and node.id in ('exit', 'quit', 'SystemExit'))
            if node not in caught
        ]
    assert exits == []


def imports_quietly(package: Path) -> bool:
    """Whether the first import of a package hides the output of others."""
    first, *_ = ast.parse((package / '__init__.py').read_text()).body[-2:]
    return ast.unparse(first).startswith('with quiet_imports():')


def test_parts_that_import_mm_packages_do_so_quietly():
    """For any part of the package that is imported first."""
    noisy = {
        path
        for path in MODULES
        for name in imported(path)
        if name.startswith(('mmcv', 'mmpretrain', 'mmseg'))
    }
    parts = {path.relative_to(PACKAGE).parts[0] for path in noisy}
    assert {'checkpoint', 'engine', 'models', 'datasets'} <= parts
    loud = [
        str(path.relative_to(PACKAGE))
        for path in noisy
        if not any(
            imports_quietly(package) for package in path.parents if PACKAGE in package.parents
        )
    ]
    assert loud == []


def test_backbones_know_no_method():
    """They only import the base classes of methods."""
    known = {
        '.'.join(name.split('.')[:4])
        for path in MODULES
        if 'backbones' in path.parts
        for name in imported(path)
        if name.startswith('toast_mm.models.peft')
    }
    assert known == {'toast_mm.models.peft.base'}
