"""Pixels that are computed without the package, and images to annotate."""

from itertools import pairwise
from pathlib import Path

import matplotlib.path
import numpy as np
from PIL import Image

from toast_mm.conversion import Annotations, Options, convert

ORIENTATION = 0x0112  # a tag of EXIF


def inside(points, height, width):
    """Pixels whose centres are in a polygon, and how far each centre is from its edges."""
    points = np.asarray(points, float)
    ys, xs = np.mgrid[:height, :width] + 0.5
    centres = np.column_stack([xs.ravel(), ys.ravel()])
    closed = np.vstack([points, points[:1]])
    distance = np.full(len(centres), np.inf)
    for start, end in pairwise(closed):
        along = end - start
        share = np.clip((centres - start) @ along / (along @ along), 0, 1)
        gap = np.linalg.norm(centres - start - share[:, None] * along, axis=1)
        distance = np.minimum(distance, gap)
    within = matplotlib.path.Path(closed).contains_points(centres)
    return within.reshape(height, width), distance.reshape(height, width)


def assert_covers(mask, points, clear=1e-9):
    """A mask covers a polygon; pixels whose centres are on its edge may be either."""
    expected, distance = inside(points, *mask.shape)
    sure = distance > clear
    np.testing.assert_array_equal(mask[sure], expected[sure])
    assert sure.mean() > 0.5 and mask.any()


def draw(path: Path, size=(40, 30), seed=0, orientation=None, **options) -> Path:
    """Write an image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if orientation:
        image.getexif()[ORIENTATION] = orientation
        options['exif'] = image.getexif()
    image.save(path, **options)
    return path


def mask_of(found: Annotations, target: Path, **options) -> np.ndarray:
    """The mask of the only image, after a conversion."""
    report = convert(found, target, Options(val=0, test=0, **options))
    assert report.images == {'train': 1}
    (path,) = (target / 'annotations' / 'train').rglob('*.png')
    with Image.open(path) as mask:
        assert mask.mode == 'L'
        return np.array(mask)
