"""What bad_inputs.py expects of a bad input: a sentence that names it, or a right result."""

from __future__ import annotations

import contextlib
import dis
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

RIGHT, SENTENCE, FAULT = 'right result', 'sentence', 'fault'
# Beginnings of messages that only say what the interpreter met.
BARE = re.compile(r"(\w+\.)*\w*(Error|Exception)\b|'?\w+'? object |'utf-8' codec |<class ")


class WrongResultError(Exception):
    """A bad input was accepted, and what came out is not right."""


@dataclass(frozen=True)
class Case:
    """One bad input and its consumer.

    Attributes:
        family: Kind of the input.
        damage: What is wrong with it.
        names: A sentence must have one of them: file, key or argument.
        run: Feeds it to its consumer. Returns None after a right result, or what the consumer
            reported in place of an error. Raises :class:`WrongResultError` after a wrong result.
        must_work: Whether the input is unusual but valid, so that an error is a fault.
    """

    family: str
    damage: str
    names: tuple[str, ...]
    run: Callable[[], str | None]
    must_work: bool = False


def judge(case: Case) -> tuple[str, str]:
    """Run a case.

    Returns:
        :data:`RIGHT`, :data:`SENTENCE` or :data:`FAULT`, and the sentence or what is wrong.
    """
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            text = case.run()
    except WrongResultError as wrong:
        return FAULT, str(wrong)
    except (Exception, SystemExit) as error:
        text = _last_words(error, output.getvalue())
        kind = type(error).__name__
        if not _may_end_so(error):
            return FAULT, f'{kind} is no error of ours: {text}'
        if problem := _problem(text, case.names):
            return FAULT, f'{problem}: {kind}: {text}'
        if case.must_work:
            return FAULT, f'refused, but it is valid: {kind}: {text}'
        return SENTENCE, text
    if text is None:
        return RIGHT, ''
    if problem := _problem(text, case.names):
        return FAULT, f'{problem}: {text}'
    return SENTENCE, text


def _last_words(error: BaseException, output: str) -> str:
    """The message of an error; of an exit with a number, the last line of the output."""
    if isinstance(error, SystemExit) and not isinstance(error.code, str):
        lines = output.strip().splitlines()
        return lines[-1] if error.code and lines else ''
    return str(error)


def _may_end_so(error: BaseException) -> bool:
    """Whether an error is one of ours, or of a kind whose message may be a sentence."""
    if isinstance(error, (OSError, ValueError, SystemExit)):
        return True
    return type(error).__module__.startswith('toast_mm') or _raised_by_us(error.__traceback__)


def _raised_by_us(step: TracebackType | None) -> bool:
    """Whether a ``raise`` of the package raised an error."""
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    if step is None:
        return False
    code = step.tb_frame.f_code.co_code
    ours = str(step.tb_frame.f_globals.get('__name__', '')).startswith('toast_mm')
    return ours and code[step.tb_lasti] == dis.opmap['RAISE_VARARGS']


def _problem(text: str, names: tuple[str, ...]) -> str:
    """What keeps a text from being a sentence; empty if nothing does."""
    text = text.strip()
    if not text:
        return 'it ends without a word'
    if '\n' in text:
        return 'several lines'
    if BARE.match(text):
        return 'a low-level message'
    if not any(name in text for name in names):
        return f'names none of {", ".join(names)}'
    return ''
