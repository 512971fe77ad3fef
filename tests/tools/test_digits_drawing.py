"""Drawn digits agree with their labels, and only the cue shows the class."""

import numpy as np
import pytest
from digits_drawing import (
    CARD_HEIGHT,
    CUE,
    DIGIT_HEIGHT,
    IGNORED,
    OTHER_CARDS,
    SIDE,
    _stamp,
    draw_cued,
    draw_scene,
    load_drawings,
)
from scipy import ndimage
from sklearn.datasets import load_digits

SOLID = np.ones((1, 8, 8), np.float32)
BLANK = np.zeros((1, 8, 8), np.float32)
SPOT = np.pad(np.ones((1, 4, 4), np.float32), ((0, 0), (2, 2), (2, 2)))


def on_cue(image: np.ndarray) -> np.ndarray:
    """Pixels of the cue's card, with the ink on it."""
    colours = np.array([CUE, *OTHER_CARDS])
    distances = np.linalg.norm(image[:, :, None].astype(float) - colours, axis=-1)
    red = (distances.argmin(-1) == 0) & (distances[..., 0] < 50)
    parts, _ = ndimage.label(ndimage.binary_opening(red, iterations=2))
    card = parts == np.bincount(parts.ravel())[1:].argmax() + 1  # and no reddish ground
    return ndimage.binary_fill_holes(card)


def test_every_drawing_is_in_one_split():
    real = load_digits()
    splits = load_drawings()
    seen = set()
    for split, share in (('train', 0.6), ('val', 0.2), ('test', 0.2)):
        for digit, drawings in enumerate(splits[split]):
            originals = {image.tobytes() for image in real.images[real.target == digit]}
            given = [(16.0 * drawing).astype(float).tobytes() for drawing in drawings]
            assert originals.issuperset(given)
            assert len(given) == pytest.approx(share * len(originals), abs=1)
            assert seen.isdisjoint(given)
            seen.update(given)
    assert len(seen) == len(real.images)


@pytest.mark.parametrize('angle', [0, 10, -15])
def test_a_stamp_has_the_size_and_the_place_that_it_is_given(angle):
    height, centre = 28, np.array([20.5, 41])
    coverage = _stamp(SOLID[0], centre, height, angle)
    assert coverage.sum() == pytest.approx(height**2, rel=0.02)
    y, x = ndimage.center_of_mass(coverage)
    assert (x + 0.5, y + 0.5) == pytest.approx(centre, abs=0.1)  # pixel 0 reaches from 0 to 1
    assert coverage.min() >= 0 and coverage.max() == 1


def test_a_stamp_is_the_drawing():
    drawing = load_drawings()['train'][3][0]
    coverage = _stamp(
        drawing, np.array([32, 32]), 64, 0
    )  # every pixel of the drawing is 8 x 8 here
    blocks = coverage.reshape(8, 8, 8, 8).mean(axis=(1, 3))
    assert np.corrcoef(blocks.ravel(), drawing.ravel())[0, 1] > 0.99
    assert coverage[:, :32].sum() != pytest.approx(coverage[:, 32:].sum(), rel=0.05)


@pytest.mark.parametrize('seed', range(5))
def test_the_mask_of_a_scene_is_where_the_ink_is(seed):
    drawings = load_drawings()['train']
    image, mask = draw_scene(np.random.default_rng(seed), drawings, [7])
    assert image.shape == (SIDE, SIDE, 3) and image.dtype == mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 8, IGNORED}
    ink, ground = image[mask == 8].astype(float), image[mask == 0].astype(float)
    towards_ink = ink.mean(axis=0) - ground.mean(axis=0)
    middle = (ink.mean(axis=0) + ground.mean(axis=0)) / 2
    assert ((ink - middle) @ towards_ink > 0).mean() > 0.97
    assert ((ground - middle) @ towards_ink < 0).mean() > 0.97


def test_a_scene_shows_the_digits_that_it_is_told_to():
    rng = np.random.default_rng(0)
    drawings = [SOLID] * 10
    for shown in ([4, 4], [0, 9, 5], [1, 2, 3, 8]):
        _, mask = draw_scene(rng, drawings, shown)
        found = [
            label - 1
            for label in range(1, 11)
            for _ in range(ndimage.label(ndimage.binary_opening(mask == label, iterations=3))[1])
        ]
        assert found == sorted(shown)


def test_the_digit_on_the_cue_is_the_class():
    rng = np.random.default_rng(0)
    for digit in range(10):
        alone = [SPOT if number == digit else BLANK for number in range(10)]
        others = [BLANK if number == digit else SPOT for number in range(10)]
        for drawings, inked in ((alone, True), (others, False)):
            image, (left, top, right, bottom) = draw_cued(rng, drawings, digit)
            card = on_cue(image)
            assert card.sum() == pytest.approx(CARD_HEIGHT**2, rel=0.2)
            rows, columns = np.nonzero(ndimage.binary_opening(card))
            edges = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            assert edges == pytest.approx((left, top, right, bottom), abs=2)
            share = (DIGIT_HEIGHT / 2) ** 2 / CARD_HEIGHT**2 if inked else 0
            assert (image[card].mean(axis=-1) < 60).mean() == pytest.approx(share, abs=0.07)


def test_nothing_but_the_cue_tells_the_class():
    """Its place and the other digits are uniformly random."""
    rng = np.random.default_rng(0)
    number = 400
    drawings = [SPOT if digit == 3 else BLANK for digit in range(10)]  # and the class is 6
    quarters, others = np.zeros(4), 0.0
    for _ in range(number):
        image, _ = draw_cued(rng, drawings, 6)
        card = on_cue(image)
        y, x = ndimage.center_of_mass(card)
        quarters[2 * (y > SIDE / 2) + (x > SIDE / 2)] += 1
        spots = ndimage.binary_opening(image.mean(axis=-1) < 60, iterations=3)
        others += ndimage.label(spots)[1]
    deviation = (number * 0.25 * 0.75) ** 0.5
    assert quarters == pytest.approx(number / 4, abs=3.5 * deviation)
    deviation = (3 * number * 0.1 * 0.9) ** 0.5
    assert others == pytest.approx(3 * number * 0.1, abs=3.5 * deviation)
