"""Reading JSON, with errors that name the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toast_mm.conversion.items import ConversionError


def read_json(path: Path) -> Any:
    """Read a file.

    Raises:
        ConversionError: It is no JSON.
        OSError: There is no such file.
    """
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConversionError(f'{path} is no JSON: {error}') from error


# Errors of looking up what an annotation does not have, or has in another form.
WRONG_FORM = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@contextmanager
def reading(where: object) -> Iterator[None]:
    """Name the annotation in errors about its form.

    Raises:
        ConversionError: Something is missing in an annotation, or is of another type.
    """
    try:
        yield
    except ConversionError as error:
        raise ConversionError(f'{where}: {error}') from error
    except WRONG_FORM as error:
        what = f'{error} is missing' if isinstance(error, KeyError) else str(error)
        raise ConversionError(f'{where} is not as the format has it: {what}') from error
