"""Command lines of tools, as the parsers of the tools understand them."""

from __future__ import annotations

import argparse
import contextlib
import functools
import runpy
import sys
from pathlib import Path
from unittest import mock


class _Parsed(BaseException):
    """Ends a tool when it parses its arguments."""


class UsageError(Exception):
    """A command line that a tool refuses."""


@functools.cache
def parser_of(script: Path) -> argparse.ArgumentParser:
    """The parser of a tool."""
    found: list[argparse.ArgumentParser] = []

    def stop(parser: argparse.ArgumentParser, *_: object) -> None:
        found.append(parser)
        raise _Parsed

    folder = str(script.parent)  # where a script finds its own modules
    with (
        mock.patch.object(argparse.ArgumentParser, 'parse_args', stop),
        mock.patch.object(sys, 'argv', [str(script)]),
        mock.patch.object(sys, 'path', [folder, *sys.path]),
        contextlib.suppress(_Parsed),
    ):
        runpy.run_path(str(script), run_name='__main__')
    (parser,) = found
    return parser


def parse(script: Path, arguments: list[str]) -> argparse.Namespace:
    """Parse arguments as a tool does.

    Raises:
        UsageError: The tool does not know an option, or misses an argument.
    """

    def refuse(message: str) -> None:
        raise UsageError(message)

    parser = parser_of(script)
    with mock.patch.object(parser, 'error', refuse):
        return parser.parse_args(arguments)
