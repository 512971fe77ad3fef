"""Command lines of tools, as the parsers of the tools understand them."""

from __future__ import annotations

import argparse
import contextlib
import functools
import runpy
import sys
from pathlib import Path
from unittest import mock

WAYS = ('parse_args', 'parse_intermixed_args')


class _Parsed(BaseException):
    """Ends a tool when it parses its arguments."""


class UsageError(Exception):
    """A command line that a tool refuses."""


@functools.cache
def parser_of(script: Path) -> tuple[argparse.ArgumentParser, str]:
    """The parser of a tool, and which of its methods the tool calls."""
    found: list[tuple[argparse.ArgumentParser, str]] = []

    def stop(way: str, parser: argparse.ArgumentParser, *_: object) -> None:
        found.append((parser, way))
        raise _Parsed

    with contextlib.ExitStack() as stack:
        for way in WAYS:
            method = functools.partialmethod(functools.partial(stop, way))
            stack.enter_context(mock.patch.object(argparse.ArgumentParser, way, method))
        folder = str(script.parent)  # where a script finds its own modules
        stack.enter_context(mock.patch.object(sys, 'path', [folder, *sys.path]))
        stack.enter_context(mock.patch.object(sys, 'argv', [str(script)]))
        stack.enter_context(contextlib.suppress(_Parsed))
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

    parser, way = parser_of(script)
    with mock.patch.object(parser, 'error', refuse):
        return getattr(parser, way)(arguments)
