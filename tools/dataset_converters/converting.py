"""What all converters do with their arguments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from toast_mm.conversion import (
    Annotations,
    ConversionError,
    convert,
    options_of,
    show_progress,
    summary,
)
from toast_mm.text_files import NotTextError


def convert_into(args: argparse.Namespace, read: Callable[..., Annotations], *source: Any) -> None:
    """Read annotations, write the data set, and print what is in it.

    Args:
        args: Has the arguments of :func:`toast_mm.conversion.add_options`.
        read: Reader of the format.
        *source: What it reads.
    """
    try:
        found = read(*source)
        if not (found.items or found.skipped):
            raise ConversionError(f'{source[0]} holds no annotation')
        report = convert(found, args.target, options_of(args), show_progress)
    except (ConversionError, NotTextError, OSError) as error:
        sys.exit(str(error))
    print(summary(report, args.target))
