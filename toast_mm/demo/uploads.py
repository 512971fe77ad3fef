"""Limits of the page, and pictures from strangers: only what PIL can decode within the limits."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

# Formats that PIL decodes itself. Others start programs (EPS) or are not meant for photographs.
FORMATS = ('BMP', 'GIF', 'JPEG', 'JPEG2000', 'PNG', 'PPM', 'TIFF', 'WEBP')
MINUTE = 60.0


class UploadError(ValueError):
    """A picture is refused; the message is a sentence for the page."""


@dataclass(frozen=True)
class Limits:
    """What visitors of the page may ask for.

    Attributes:
        megabytes: Largest file.
        megapixels: Largest picture. A segmentor needs 4 to 8 bytes for every pixel and class.
        per_minute: Pictures and predictions of one address in a minute, counted apart.
        waiting: Visitors who may wait for a prediction.
    """

    megabytes: float = 20
    megapixels: float = 16
    per_minute: int = 30
    waiting: int = 16

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f'{name}={value} must be above 0')


class RequestLimit:
    """Counts requests by visitor, and says when there are too many.

    Args:
        per_minute: Requests of a visitor within any 60 seconds.
        clock: Gives the time in seconds.

    Example:
        >>> limit = RequestLimit(per_minute=1)
        >>> limit.seconds_to_wait('10.0.0.7'), limit.seconds_to_wait('10.0.0.7') > 59
        (0.0, True)
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._lock = threading.Lock()
        self._times: dict[str, deque[float]] = {}

    def seconds_to_wait(self, visitor: str) -> float:
        """Count a request. Above 0, it is refused and not counted."""
        with self._lock:
            now = self._clock()
            self._forget(now - MINUTE)
            times = self._times.setdefault(visitor, deque())
            if len(times) >= self.per_minute:
                return times[0] + MINUTE - now
            times.append(now)
            return 0.0

    def _forget(self, until: float) -> None:
        """Forget older requests, and visitors who have no others."""
        for visitor, times in [*self._times.items()]:
            while times and times[0] <= until:
                times.popleft()
            if not times:
                del self._times[visitor]


def read_upload(path: str, name: str, limits: Limits) -> Image.Image:
    """Open a picture from a stranger, after checks of its size and of all its pixels.

    Of an animation or a file of several pages, the first picture counts.

    Args:
        path: The file.
        name: What its owner calls it, for errors.
        limits: Of these, the sizes.

    Returns:
        The picture, decoded. It is not turned upright: :meth:`Predictor.predict` does this.

    Raises:
        UploadError: It is too large, or no picture; the message says why.
    """
    size = os.path.getsize(path) / 1e6
    if size > limits.megabytes:
        raise UploadError(
            f'{name} has {size:.1f} megabytes: at most {limits.megabytes:g} are allowed'
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of bombs: the check below has a lower limit
            with Image.open(path, formats=FORMATS) as picture:
                _check_pixels(picture, name, limits)
                picture.verify()  # checksums; the file cannot be read after it
            with Image.open(path, formats=FORMATS) as picture:
                picture.load()
                return picture
    except UploadError:
        raise
    except Image.DecompressionBombError as error:
        raise UploadError(
            f'{name} has too many pixels: at most {limits.megapixels:g} million are allowed'
        ) from error
    except Exception as error:  # PIL's decoders raise almost anything for damaged files
        raise UploadError(
            f'{name} is no picture that can be read, or it is damaged; pictures are '
            f'{", ".join(FORMATS[:-1])} and {FORMATS[-1]}'
        ) from error


def _check_pixels(picture: Image.Image, name: str, limits: Limits) -> None:
    """Check the size that the head of a file says, before anything is decoded.

    Raises:
        UploadError: It has too many pixels.
    """
    width, height = picture.size
    if width * height > limits.megapixels * 1e6:
        raise UploadError(
            f'{name} has {width} x {height} pixels: at most {limits.megapixels:g} million are '
            'allowed'
        )
