"""The calls of other programs that a block of bash makes."""

from __future__ import annotations

import subprocess
from pathlib import Path

# bash itself expands variables, loops and quotes. It finds no program, and writes down each call.
PRELUDE = """
PATH=/nowhere
command_not_found_handle() { local IFS=$'\\x1f'; printf '%s\\x1e' "$*" >&3; }
cd() { :; }
source() { :; }
exec 3> calls
"""


def calls(code: str, folder: Path) -> list[list[str]]:
    """Words of each call, in order.

    Args:
        code: A block of bash. It is run in ``folder``, but starts no other program.
        folder: An empty folder.

    Raises:
        ValueError: bash cannot read the block.
    """
    bash = ['/bin/bash', '--noprofile', '--norc', '-c', PRELUDE + code]
    result = subprocess.run(bash, cwd=folder, capture_output=True, text=True, env={})
    if result.returncode or result.stderr:
        raise ValueError(result.stderr)
    records = (folder / 'calls').read_text().split('\x1e')[:-1]
    return [record.split('\x1f') for record in records]
