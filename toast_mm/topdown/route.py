"""Where the stream is read, which blocks receive a signal, and which blocks each pass runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(init=False)
class FeedbackRoute:
    """The way of the signal through a backbone of ``depth`` blocks (or stages).

    The stream is read after ``feedback_from`` blocks, and blocks
    ``feedback_to .. feedback_from - 1`` receive a signal. The paper's routes
    (sec. 5, tables 6 and 9):

    ============ ================= =============== ====
    route        ``feedback_from`` ``feedback_to`` cost
    ============ ================= =============== ====
    TOAST        ``'last'``        ``'first'``     2
    TOAST-Early  ``'middle'``      ``'first'``     1.5
    TOAST-Late   ``'last'``        ``'middle'``    1.5
    ============ ================= =============== ====

    Args:
        depth: Number L of blocks of the backbone.
        feedback_from: Blocks run before the read-out, ``1 .. depth``;
            ``'last'`` is ``depth``, ``'middle'`` is ``depth // 2``.
        feedback_to: First block that receives a signal,
            ``0 .. feedback_from - 1``; ``'first'`` is 0, ``'middle'`` is
            ``depth // 2``.

    Raises:
        TypeError: An end of the route is neither an int nor a name.
        ValueError: The route leaves the backbone or runs upside down.

    Example:
        >>> route = FeedbackRoute(12, 'last', 'middle')
        >>> route.receivers, route.cost
        (range(6, 12), 1.5)
    """

    depth: int
    feedback_from: int
    feedback_to: int

    def __init__(
        self, depth: int, feedback_from: int | str = 'last', feedback_to: int | str = 'first'
    ) -> None:
        middle = depth // 2
        source = _block('feedback_from', feedback_from, middle=middle, last=depth)
        target = _block('feedback_to', feedback_to, first=0, middle=middle)
        if not 1 <= source <= depth:
            raise ValueError(
                f'feedback_from={feedback_from!r} reads after {source} blocks, but a backbone of '
                f"{depth} blocks can be read after 1..{depth} ('middle' is {middle}, 'last' is "
                f'{depth})'
            )
        if not 0 <= target < source:
            raise ValueError(
                f'feedback_to={feedback_to!r} starts at block {target}, but feedback_from='
                f'{feedback_from!r} only reaches blocks before the read-out: 0..{source - 1}'
            )
        self.depth, self.feedback_from, self.feedback_to = depth, source, target

    @property
    def receivers(self) -> range:
        """Blocks that receive a signal, from the input side."""
        return range(self.feedback_to, self.feedback_from)

    @property
    def shared(self) -> range:
        """Blocks below the first receiver: both passes are the same there, so they run once."""
        return range(0, self.feedback_to)

    @property
    def second_pass(self) -> range:
        """Blocks of the second pass; those from ``feedback_from`` on receive no signal."""
        return range(self.feedback_to, self.depth)

    @property
    def reads_output(self) -> bool:
        """Whether the read-out is the backbone's output, after its final norm."""
        return self.feedback_from == self.depth

    @property
    def cost(self) -> float:
        """Blocks run by both passes, in units of one plain forward."""
        return (self.feedback_from + len(self.second_pass)) / self.depth


def _block(argument: str, value: int | str, **names: int) -> int:
    """Number of a block given by number or name."""
    if isinstance(value, str) and value in names:
        return names[value]
    if isinstance(value, bool) or not isinstance(value, int):
        known = ', '.join(repr(name) for name in names)
        raise TypeError(f'{argument}={value!r} is neither the number of a block nor one of {known}')
    return value
