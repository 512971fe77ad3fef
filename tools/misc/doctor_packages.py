"""Versions within the bounds of the project, packages that overwrite each other, and imports."""

from __future__ import annotations

import platform
import signal
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from doctor_findings import BROKEN, NOTE, OK, Finding

PROJECT = 'toast_mm'
OPENCV = (
    'opencv-python',
    'opencv-python-headless',
    'opencv-contrib-python',
    'opencv-contrib-python-headless',
)
# Packages of which only one may be installed, since they install into the same folder.
SAME_FOLDER = (
    ('onedl-mmcv', 'mmcv', 'mmcv-lite', 'mmcv-full'),
    ('onedl-mmengine', 'mmengine', 'mmengine-lite'),
    ('onedl-mmpretrain', 'mmpretrain'),
    ('onedl-mmsegmentation', 'mmsegmentation'),
    OPENCV,
)
ONEDL = ('onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain', 'onedl-mmsegmentation')
UPSTREAM = ('mmengine', 'mmcv', 'mmpretrain', 'mmsegmentation')
OPERATORS = (
    'this mmsegmentation needs the compiled operators of mmcv: build mmcv for your torch, or make '
    'a new environment with pip install "toast_mm[onedl]"'
)
# Mends by a part of the message of a failed import.
MENDS = {
    'libGL.so': 'apt-get install libgl1 libglib2.0-0, or replace opencv-python by '
    'opencv-python-headless',
    'libgthread': 'apt-get install libglib2.0-0, or replace opencv-python by '
    'opencv-python-headless',
    'torchvision::nms': 'torch and torchvision are of different builds: install both in one '
    'command, from one index',
    'ARRAY_API': 'the package was built for another NumPy: install its newest version, or '
    'numpy>=2.0.2',
    'numpy.core.multiarray': 'the package was built for another NumPy: install its newest version, '
    'or numpy>=2.0.2',
    'mmcv.ops': OPERATORS,
    'mmcv._ext': OPERATORS,
    'No module named': 'pip install "toast_mm[onedl]"',
}


def installed(name: str) -> str | None:
    """Version of a distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def declared() -> tuple[str, dict[str, list[str]]]:
    """Bounds of Python, and requirements by extra ('' for those that are always needed).

    They are those of the checkout, or of the installed package.

    Raises:
        LookupError: There is neither.
    """
    file = Path(__file__).resolve().parents[2] / 'pyproject.toml'
    try:
        import tomllib

        project = tomllib.loads(file.read_text())['project']
        extras = project['optional-dependencies']
        return project['requires-python'], {'': project['dependencies'], **extras}
    except (ImportError, OSError):  # Python 3.10 has no tomllib
        pass
    try:
        known = metadata.metadata(PROJECT)
    except metadata.PackageNotFoundError:
        raise LookupError(f'{PROJECT} is not installed') from None
    parts: dict[str, list[str]] = {}
    for line in known.get_all('Requires-Dist') or ():
        requirement, _, extra = line.partition('; extra == ')
        parts.setdefault(extra.strip('\'"'), []).append(requirement)
    return known['Requires-Python'], parts


def versions() -> Iterator[Finding]:
    """Python and all required packages, against their bounds."""
    try:
        from packaging.requirements import Requirement
        from packaging.specifiers import SpecifierSet

        bounds, parts = declared()
    except (ImportError, LookupError) as error:
        yield Finding(
            BROKEN, 'bounds', f'versions are not checked: {error}', 'pip install packaging toast_mm'
        )
        return
    python = platform.python_version()
    fits = SpecifierSet(bounds).contains(python, prereleases=True)
    mend = '' if fits else f'make the environment with a Python {bounds}'
    yield Finding(OK if fits else BROKEN, 'Python', f'{python}, needed {bounds}', mend)
    onedl, upstream = (any(map(installed, names)) for names in (ONEDL, UPSTREAM))
    build = 'upstream' if upstream and not onedl else 'onedl'
    for line in [*parts[''], *parts[build]]:
        requirement = Requirement(line)
        version = installed(requirement.name)
        if requirement.name in OPENCV:
            version = next((found for name in OPENCV if (found := installed(name))), None)
        needed = f'needed {requirement.specifier}' if requirement.specifier else 'any version'
        right = version and requirement.specifier.contains(version, prereleases=True)
        yield Finding(
            OK if right else BROKEN,
            requirement.name,
            f'{version or "not installed"}, {needed}',
            '' if right else f'pip install "{requirement.name}{requirement.specifier}"',
        )


def clashes() -> Iterator[Finding]:
    """Packages that have overwritten each other."""
    for names in SAME_FOLDER:
        there = [name for name in names if installed(name)]
        if len(there) > 1:
            yield Finding(
                BROKEN,
                ' and '.join(there),
                'they install into one folder, so that each has overwritten files of the other',
                f'pip uninstall -y {" ".join(there)}; pip install {there[0]}',
            )


def imports(
    modules: Sequence[str], reports: Sequence[dict[str, Any]], status: int
) -> Iterator[Finding]:
    """Modules that cannot be imported, and how long the others take.

    Args:
        modules: Those to import, in their order.
        reports: Those that the probe reports.
        status: Exit status of the probe.
    """
    for report in reports:
        if report['error']:
            text = ' '.join(report['error'].split())
            mend = next((mend for part, mend in MENDS.items() if part in text), '')
            yield Finding(BROKEN, f'import {report["module"]}', text, mend)
    if len(reports) < len(modules):
        why, mend = f'it ends Python with status {status}', ''
        if status == 124:
            why = 'it does not end'
        elif status < 0:
            why = f'it ends Python by {signal.Signals(-status).name}'
        if status == -signal.SIGILL:
            mend = 'the processor lacks instructions that this build uses: install another build'
        yield Finding(BROKEN, f'import {modules[len(reports)]}', why, mend)
    elif not any(report['error'] for report in reports):
        seconds = sum(report['seconds'] for report in reports)
        yield Finding(OK, 'imports', f'all parts are imported, in {seconds:.0f} s')


def traps(facts: dict[str, Any]) -> Iterator[Finding]:
    """What works, but not as one may expect."""
    if installed('onedl-mim'):
        yield Finding(
            NOTE,
            'onedl-mim',
            'its mim train and mim test do not find the tools of an installed toast_mm',
            'pip uninstall onedl-mim; pip install openmim',
        )
    if not facts:
        return
    if facts['project']:
        yield Finding(OK, PROJECT, '{version}, in {folder}'.format(**facts['project']))
    ops = 'with' if facts['ops'] else 'without'
    yield Finding(OK, 'mmcv', f'{ops} compiled operators, which are not needed here')
    if facts['transformers']:
        yield Finding(
            NOTE,
            'transformers',
            'mmpretrain imports it, which slows every start',
            'pip uninstall transformers, unless you use toast_mm.PEFT, which needs it',
        )
