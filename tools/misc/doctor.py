"""Examine this machine: versions, imports, processor, memory, GPU, and known traps with the mend.

The exit status is 1 if something is broken, else 0. Notes are about speed, or about what only some
people use. Nothing is changed.

Example:
    python tools/misc/doctor.py
    python tools/misc/doctor.py --json | jq .broken
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import doctor_machine
import doctor_packages
from doctor_findings import BROKEN, Finding

MODULES = (
    'numpy',
    'cv2',
    'torch',
    'torchvision',
    'timm',
    'mmengine',
    'mmcv',
    'mmpretrain',
    'mmseg',
)
OURS = ('toast_mm', 'toast_mm.models', 'toast_mm.engine')
SECONDS = 300  # within which all imports must end


def probe(modules: Sequence[str]) -> tuple[list[dict[str, Any]], int]:
    """Import modules in another process, since a broken one may end it.

    Returns:
        Reports of the modules, and the facts that torch knows of the machine; exit status.
    """
    script = Path(__file__).with_name('doctor_probe.py')
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, 'reports')
        try:
            status = subprocess.run(
                [sys.executable, '-W', 'ignore', str(script), str(out), *modules],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=SECONDS,
            ).returncode
        except subprocess.TimeoutExpired:
            status = 124
        lines = out.read_text().splitlines() if out.exists() else []
    return [json.loads(line) for line in lines], status


def examine() -> list[Finding]:
    """All findings, packages first."""
    reports, status = probe([*MODULES, *OURS])
    facts = next((report['facts'] for report in reports if 'facts' in report), {})
    imports = [report for report in reports if 'module' in report]
    return [
        *doctor_packages.versions(),
        *doctor_packages.clashes(),
        *doctor_packages.imports([*MODULES, *OURS], imports, status),
        *doctor_packages.traps(facts),
        *doctor_machine.findings(facts),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--json', action='store_true', help='print JSON, for scripts')
    args = parser.parse_args()
    found = examine()
    broken = sum(finding.state == BROKEN for finding in found)
    if args.json:
        print(json.dumps(dict(broken=broken, findings=[*map(asdict, found)]), indent=2))
    else:
        for finding in found:
            print(f'{finding.state:7} {finding.what}: {finding.text}')
            if finding.mend:
                print(f'{"":7} -> {finding.mend}')
        print(f'\n{broken} broken' if broken else '\nNothing is broken')
    sys.exit(bool(broken))


if __name__ == '__main__':
    main()
