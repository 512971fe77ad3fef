"""Drawing images of real handwritten digits, which come with scikit-learn.

A scene shows digits on a textured background and has a mask. A cued image shows four digits on
coloured cards; its class is the digit on the card of the cue's colour. Only the colour shows which
digit counts, so a model must find that card before it can read the digit.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator
from sklearn.datasets import load_digits

SIDE = 64
SHARES = dict(train=0.6, val=0.2, test=0.2)  # split of the drawings of every digit

CLASSES = ('background', *map(str, range(10)))
PALETTE = (
    (0, 0, 0), (230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48),
    (145, 30, 180), (70, 240, 240), (240, 50, 230), (210, 245, 60), (250, 190, 212),
)  # fmt: skip
IGNORED = 255

CUE = (230, 60, 50)
OTHER_CARDS = ((70, 150, 240), (90, 200, 90), (240, 210, 70), (185, 120, 220), (215, 215, 215))
CARD_HEIGHT, DIGIT_HEIGHT = 31, 28

Drawings = Sequence[np.ndarray]  # of the digits 0 to 9: (N, 8, 8), ink from 0 to 1


def load_drawings(seed: int = 0) -> dict[str, Drawings]:
    """Load the drawings of every split; no drawing is in two splits."""
    digits = load_digits()
    rng = np.random.default_rng(seed)
    splits: dict[str, list[np.ndarray]] = {split: [] for split in SHARES}
    for digit in range(10):
        # float32: OpenCV 5 cuts off the border of images that it warps in float64.
        drawings = rng.permutation(digits.images[digits.target == digit]).astype(np.float32) / 16
        ends = np.cumsum([round(share * len(drawings)) for share in SHARES.values()])[:-1]
        for split, part in zip(SHARES, np.split(drawings, ends), strict=True):
            splits[split].append(part)
    return dict(splits)


def draw_scene(
    rng: Generator, drawings: Drawings, digits: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw at most four digits on a textured background.

    Returns:
        RGB image ``(64, 64, 3)`` and mask ``(64, 64)``: 0 is the background, d + 1 the digit d, and
        255 the soft border of its ink.
    """
    image = _texture(rng)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for digit, centre in zip(digits, _places(rng, jitter=3), strict=False):
        drawing = rng.choice(drawings[digit])
        ink = _sharpen(_stamp(drawing, centre, rng.uniform(27, 35), rng.uniform(-8, 8)))
        image = _paint(image, ink, _contrasting_colour(rng, image[ink > 0.5].mean(axis=0)))
        mask[ink > 0.1] = IGNORED
        mask[ink > 0.5] = digit + 1
    return _to_bytes(image), mask


def draw_cued(
    rng: Generator, drawings: Drawings, digit: int
) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Draw four cards with a digit each; the card of the cue's colour gets the given digit.

    The colours of the other cards, their digits and all places are random.

    Returns:
        RGB image ``(64, 64, 3)``, and the box of the card of the cue's colour: its left, top, right
        and bottom edge in pixels.
    """
    image, boxes = _texture(rng), []
    colours = np.vstack([CUE, rng.choice(OTHER_CARDS, 3)])
    shown = [digit, *rng.integers(10, size=3).tolist()]
    for colour, number, centre in zip(colours, shown, _places(rng, jitter=1), strict=True):
        angle = rng.uniform(-5, 5)
        card = _stamp(np.ones((8, 8), np.float32), centre, CARD_HEIGHT, angle)
        image = _paint(image, card, colour + rng.uniform(-20, 20, 3))
        ink = _sharpen(_stamp(rng.choice(drawings[number]), centre, DIGIT_HEIGHT, angle))
        image = _paint(image, ink, rng.uniform(0, 50, 3))
        boxes.append(_box(card > 0.5))
    return _to_bytes(image), boxes[0]


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom edge of what a mask contains."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return left, top, left + width, top + height


def _texture(rng: Generator) -> np.ndarray:
    """Texture ``(64, 64, 3)``: two colours mixed by smooth noise of random scale, and grain."""
    noise = rng.random((rng.integers(3, 17),) * 2)
    mixture = cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)[..., None]
    first, second = rng.uniform(40, 215, (2, 3))
    return first + mixture * (second - first) + rng.normal(0, 8, (SIDE, SIDE, 3))


def _places(rng: Generator, jitter: float) -> np.ndarray:
    """Four points (x, y) near the centres of the quarters, in random order."""
    quarters = SIDE / 4 * np.array([(1, 1), (3, 1), (1, 3), (3, 3)])
    return rng.permutation(quarters) + rng.uniform(-jitter, jitter, (4, 2))


def _stamp(pattern: np.ndarray, centre: np.ndarray, height: float, angle: float) -> np.ndarray:
    """Pattern scaled to a height, rotated and placed: coverage ``(64, 64)`` from 0 to 1."""
    middle = (len(pattern) - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), angle, height / len(pattern))
    matrix[:, 2] = matrix[:, 2] + centre - 0.5 - middle
    return cv2.warpAffine(pattern, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC).clip(0, 1)


def _sharpen(coverage: np.ndarray) -> np.ndarray:
    """Give strokes edges of about a pixel; scaling 8 x 8 pixels up blurs them."""
    return (4 * coverage - 1.4).clip(0, 1)


def _paint(image: np.ndarray, coverage: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return image + coverage[..., None] * (colour - image)


def _contrasting_colour(rng: Generator, ground: np.ndarray, distance: float = 180) -> np.ndarray:
    """A random colour that differs enough from the background."""
    while np.linalg.norm((colour := rng.uniform(0, 255, 3)) - ground) < distance:
        pass
    return colour


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return image.round().clip(0, 255).astype(np.uint8)
